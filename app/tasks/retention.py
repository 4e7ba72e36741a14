"""Retention: what has ended long enough ago is deleted, a part at a time.

A round has a budget of seconds, because the sweeps wait for its end; what is left over comes with
the next one. Four rules, each on an index of its own: runs of tasks that say `retention_days`,
other runs, runs that failed for good, whose dead letter must not lose them, and dead letters.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.engine import Row

from app.common.logging import get_logger
from app.common.metrics import PURGED
from app.config.settings import APPLICATION_BIND
from app.db.types import db_now, db_now_plus
from app.tasks.batches import batches_before, forget_batches
from app.tasks.firing import firings_before, forget_firings
from app.tasks.limit_models import RateBucket
from app.tasks.models import DeadLetter, IdempotencyRecord, TaskRun
from app.tasks.results import RESULTS, result_folder
from app.tasks.services import Services

LIMIT: Final = 500
_DAY_SECONDS: Final = 86_400.0
# A rate that was not used for so long is as good as new.
_UNUSED_SECONDS: Final = 60.0
_RUN = TaskRun.__table__.c
_LETTER = DeadLetter.__table__.c
# Written out, not bound: a partial index serves only a condition that the planner can read.
_HAS_ENDED: ColumnElement[bool] = literal_column("finished_at IS NOT NULL")
_HAS_LETTER: ColumnElement[bool] = literal_column("dead_letter_id IS NOT NULL")
_HAS_NO_LETTER: ColumnElement[bool] = literal_column("dead_letter_id IS NULL")
_HAS_OWN_DAYS: ColumnElement[bool] = literal_column("retention_days IS NOT NULL")
_HAS_NO_DAYS: ColumnElement[bool] = literal_column("retention_days IS NULL")
# Without its run a dead letter could not be replayed.
_IS_NEEDED = exists().where(_LETTER.run_id == _RUN.id, _LETTER.discarded_at.is_(None))
log = get_logger(__name__)
Purge = Callable[[], Awaitable[int]]


class Retention:
    """Deletes what is past its retention, `limit` rows in one commit; `clock` measures the budget.

    `expired` delete what other rooms keep for a time; each returns how much that was.
    """

    def __init__(
        self,
        services: Services,
        *,
        expired: Sequence[Purge] = (),
        limit: int = LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._databases = services.databases
        self._storage = services.storage
        self._settings = services.settings.retention
        self._expired = expired
        self._limit = limit
        self._clock = clock
        self._turn = 0

    async def purge(self) -> bool:
        """Delete for at most `retention.budget_seconds`; return whether everything was done."""
        ends_at = self._clock() + self._settings.budget_seconds
        rules = await self._rules()
        for done in range(1, len(rules) + 1):
            # One after the other over all rounds: none of them can use up every budget.
            rule = rules[self._turn % len(rules)]
            self._turn += 1
            while await rule() >= self._limit:
                if self._clock() >= ends_at:
                    return False
            if self._clock() >= ends_at:
                return done == len(rules)
        return True

    async def _rules(self) -> list[Purge]:
        days = self._settings.runs_days
        plain = and_(_HAS_NO_DAYS, _HAS_NO_LETTER, _ended_before(days))
        dead = and_(_HAS_LETTER, _ended_before(days), ~_IS_NEEDED)
        own = [
            and_(_HAS_OWN_DAYS, _HAS_NO_LETTER, _RUN.retention_days == one, _ended_before(one))
            for one in await self._own_days()
        ]
        rules = [self._count(purge, "identities") for purge in self._expired]
        if own or await self._is_any_old(plain, dead):
            rules += [
                self._forget_letters,
                *(self._forgetting(condition) for condition in (*own, plain, dead)),
                self._forget_keys,
                self._forget_rates,
                self._forget_firings,
                self._forget_batches,
            ]
        return rules

    async def _is_any_old(self, *runs: ColumnElement[bool]) -> bool:
        """Return whether a rule has anything to delete: mostly none has, and one question is
        cheaper than so many transactions.
        """
        settings = self._settings
        old = or_(
            *(exists().where(_HAS_ENDED, condition) for condition in runs),
            exists().where(_LETTER.created_at < _days_ago(settings.dead_letters_days)),
            exists().where(IdempotencyRecord.expires_at < db_now()),
            exists().where(RateBucket.next_at < db_now_plus(-_UNUSED_SECONDS)),
            exists().where(firings_before(settings.schedule_firings_days)),
            exists().where(batches_before(settings.runs_days)),
        )
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            return bool((await connection.execute(select(old))).scalar_one())

    async def _own_days(self) -> list[float]:
        """Return every `retention_days` that an ended run has, each by one look at the index."""
        found: list[float] = []
        here = and_(_HAS_ENDED, _HAS_OWN_DAYS, _HAS_NO_LETTER)
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            while True:
                more = _RUN.retention_days > found[-1] if found else _HAS_OWN_DAYS
                least = select(func.min(_RUN.retention_days)).where(here, more)
                if (days := (await connection.execute(least)).scalar()) is None:
                    return found
                found.append(days)

    def _forgetting(self, condition: ColumnElement[bool]) -> Purge:
        statement = select(_RUN.id, _RUN.fence, _RUN.result_ref).where(_HAS_ENDED, condition)
        oldest = statement.order_by(_RUN.finished_at).limit(self._limit)

        async def forget() -> int:
            return await self._forget_runs(oldest)

        return forget

    async def _forget_runs(self, oldest: Select[Any]) -> int:
        """Delete some runs, with what is kept of them elsewhere."""
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            rows = list((await connection.execute(oldest)).all())
        # Files first: a crash in between leaves rows, which the next round finds again.
        await self._forget_results(rows)
        ids = [row.id for row in rows]
        async with self._databases.begin(APPLICATION_BIND) as connection:
            await connection.execute(delete(TaskRun).where(_RUN.id.in_(ids)))
            # A key whose run is gone would stand for nothing.
            await connection.execute(
                delete(IdempotencyRecord).where(IdempotencyRecord.run_id.in_(ids))
            )
        PURGED.labels("runs").inc(len(ids))
        return len(ids)

    async def _forget_results(self, rows: list[Row[Any]]) -> None:
        """Delete the results on the storage, also those of attempts that lost their lease.

        A document that a plugin stored itself is that plugin's to delete.
        """
        refs = {row.result_ref for row in rows if (row.result_ref or "").startswith(RESULTS)}
        folders = {result_folder(row.id) for row in rows if row.fence > 0}
        runs = {row.id for row in rows}
        for folder in sorted(folders):
            keys = await self._storage.list(folder)
            refs |= {key for key in keys if key.removeprefix(folder).partition(".")[0] in runs}
        for ref in sorted(refs):
            await self._storage.delete(ref)
        PURGED.labels("results").inc(len(refs))

    async def _forget_letters(self) -> int:
        old = _LETTER.created_at < _days_ago(self._settings.dead_letters_days)
        some = select(_LETTER.id).where(old).order_by(_LETTER.created_at).limit(self._limit)
        async with self._databases.begin(APPLICATION_BIND) as connection:
            gone = await connection.execute(
                delete(DeadLetter).where(_LETTER.id.in_(some.scalar_subquery()))
            )
        PURGED.labels("dead_letters").inc(gone.rowcount)
        return gone.rowcount

    async def _forget_keys(self) -> int:
        async with self._databases.begin(APPLICATION_BIND) as connection:
            gone = await connection.execute(
                delete(IdempotencyRecord).where(IdempotencyRecord.expires_at < db_now())
            )
        PURGED.labels("idempotency_keys").inc(gone.rowcount)
        return 0

    async def _forget_rates(self) -> int:
        async with self._databases.begin(APPLICATION_BIND) as connection:
            await connection.execute(
                delete(RateBucket).where(RateBucket.next_at < db_now_plus(-_UNUSED_SECONDS))
            )
        return 0

    async def _forget_firings(self) -> int:
        days = self._settings.schedule_firings_days
        count = await forget_firings(self._databases, days, self._limit)
        PURGED.labels("schedule_firings").inc(count)
        return count

    async def _forget_batches(self) -> int:
        await forget_batches(self._databases, self._settings.runs_days, self._limit)
        return 0

    def _count(self, purge: Purge, kind: str) -> Purge:
        async def counted() -> int:
            PURGED.labels(kind).inc(await purge())
            return 0

        return counted


def _ended_before(days: float) -> ColumnElement[bool]:
    return _RUN.finished_at < _days_ago(days)


def _days_ago(days: float) -> ColumnElement[datetime]:
    return db_now_plus(-_DAY_SECONDS * days)
