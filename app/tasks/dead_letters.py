"""Dead letters: looked at, replayed and discarded, each change with its audit row in one commit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from app.common import failpoints
from app.common.errors import FieldError, TaskyardError
from app.common.ids import new_id
from app.common.tracing import TraceContext
from app.config.settings import APPLICATION_BIND, Settings
from app.db import Databases
from app.db.types import db_now
from app.tasks.audit import Change, write_audit
from app.tasks.dead_letter_queries import (
    DeadLetterFilters,
    DeadLetterQueries,
    LetterState,
    matching,
    visible_to,
)
from app.tasks.errors import (
    DeadLetterHasNoRun,
    IdempotencyKeyReused,
    InvalidOptions,
    InvalidParams,
    ParamsTooLarge,
)
from app.tasks.idempotency import check_idempotency_key
from app.tasks.insertion import insert_run
from app.tasks.models import DeadLetter, TaskRun
from app.tasks.outbox import Outbox
from app.tasks.replay_batches import (
    CHUNK,
    HAS_RUN,
    MARK_REPLAYED,
    REPLAYED,
    ReplayBatch,
    ReplayedMany,
    ReplayPlan,
    change_of,
    insert_all,
)
from app.tasks.replaying import ReplayMaker, refuse_replay
from app.tasks.requests import Caller, NewRun
from app.tasks.statuses import Status
from app.tasks.submission import Submitted

DISCARDED = "dead_letter.discarded"
_LETTER = DeadLetter.__table__.c
_RUN = TaskRun.__table__.c


class DeadLetters(DeadLetterQueries):
    """What can be done about dead letters, each within what the caller may see."""

    def __init__(
        self, databases: Databases, maker: ReplayMaker, outbox: Outbox, settings: Settings
    ) -> None:
        super().__init__(databases)
        self._maker = maker
        self._outbox = outbox
        self._max_delay_seconds = settings.limits.max_delay_seconds

    async def replay(
        self,
        letter_id: str,
        principal: Caller,
        *,
        trace: TraceContext,
        params: Mapping[str, Any] | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Run the letter's run again, with other parameters when they are given.

        A letter has one replay: a second one raises DeadLetterReplayed, but with the idempotency
        key of the first it gets the first one's answer. Raises also DeadLetterNotFound,
        DeadLetterDiscarded, DeadLetterHasNoRun, DeadLetterTaskNotRegistered, Forbidden and what
        `ReplayMaker.make` raises.
        """
        if idempotency_key is not None:
            check_idempotency_key(idempotency_key)
        letter = await self.get(letter_id, principal)
        original = await self.run_of(letter)
        earlier = await self._earlier(letter, principal, idempotency_key)
        if earlier is not None:
            return await self._same_answer(earlier, original, params, principal)
        refuse_replay(letter, original)
        assert original is not None  # noqa: S101 - `refuse_replay` has raised
        entry = await self._maker.entry(original.task, principal)
        run = self._maker.make(entry, original, principal, trace_id=trace.trace_id, params=params)
        run.row["idempotency_key"] = idempotency_key
        detail = {"run_id": run.id, "params_edited": params is not None}
        change = change_of(REPLAYED, letter.id, reason, detail)
        row = await self._commit(letter.id, run, change, principal)
        if row is None:
            # Somebody was faster. The letter now says so, and the second look at it ends here.
            return await self.replay(
                letter_id,
                principal,
                trace=trace,
                params=params,
                reason=reason,
                idempotency_key=idempotency_key,
            )
        self._outbox.offer([run.wakeup(0.0)])
        return Submitted(run.id, entry.name, row.status, row.created_at, replayed=False)

    async def replay_all(
        self,
        filters: DeadLetterFilters,
        principal: Caller,
        *,
        trace: TraceContext,
        rate_per_second: float | None = None,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> ReplayedMany:
        """Run again what the open letters that match are about, oldest first, in one batch.

        With a rate the runs are due one after the other from now on. Each chunk is one commit;
        when one fails the letters of the chunks before are replayed and a repeated call takes
        the rest. Raises InvalidOptions for a rate that would take longer than a run may wait.
        """
        plan = await self._plan(filters, principal)
        if rate_per_second is not None:
            self._check_rate(plan.count, rate_per_second)
        if dry_run or plan.count == 0:
            return ReplayedMany(count=plan.count, batch_id=None, skipped=plan.skipped)
        batch = ReplayBatch(new_id(), trace.trace_id, rate_per_second, reason, plan.now)
        after: str | None = None
        while True:
            async with self._databases.begin(APPLICATION_BIND) as connection:
                letters = (await connection.execute(plan.next_chunk(after))).all()
                made = self._make_all(letters, plan, batch, principal)
                await insert_all(connection, made, batch, principal)
            batch.count += len(made)
            self._outbox.offer([batch.wakeup(run) for _, run in made])
            if len(letters) < CHUNK:
                break
            after = letters[-1].letter_id
        return ReplayedMany(
            count=batch.count,
            batch_id=batch.id if batch.count else None,
            skipped=plan.skipped,
        )

    async def discard(self, letter_id: str, principal: Caller, *, reason: str | None) -> None:
        """Put the letter aside: it is kept and leaves the lists. Once is enough: the first reason
        stays. Raises DeadLetterNotFound.
        """
        letter = await self.get(letter_id, principal)
        async with self._databases.begin(APPLICATION_BIND) as connection:
            await _discard(connection, [letter.id], principal, reason)

    async def discard_all(
        self,
        filters: DeadLetterFilters,
        principal: Caller,
        *,
        reason: str | None,
        dry_run: bool = False,
    ) -> int:
        """Discard the letters that match; return how many there are. Each chunk is one commit."""
        here = and_(matching(filters, principal), _LETTER.created_at <= await self._now())
        if dry_run:
            rows = await self._all(select(func.count().label("letters")).where(here))
            return int(rows[0].letters)
        chunk = select(_LETTER.id).where(here, _LETTER.discarded_at.is_(None)).limit(CHUNK)
        locked = chunk.order_by(_LETTER.id).with_for_update(skip_locked=True)
        count = 0
        while True:
            async with self._databases.begin(APPLICATION_BIND) as connection:
                ids = list((await connection.execute(locked)).scalars())
                count += await _discard(connection, ids, principal, reason)
            if len(ids) < CHUNK:
                return count

    async def _commit(
        self, letter_id: str, run: NewRun, change: Change, principal: Caller
    ) -> Row[Any] | None:
        """Commit mark, run and audit row; None when the letter was replayed or discarded before."""
        async with self._databases.begin(APPLICATION_BIND) as connection:
            mark = {"letter_id": letter_id, "actor": principal.id, "replay_id": run.id}
            if (await connection.execute(MARK_REPLAYED, mark)).rowcount == 0:
                return None
            row = await insert_run(connection, run, actor=principal.id)
            await write_audit(connection, principal, [change])
            failpoints.hit("submission.before_commit")
        failpoints.hit("submission.after_commit")
        return row

    async def _earlier(
        self, letter: Row[Any], principal: Caller, key: str | None
    ) -> Row[Any] | None:
        """Return the letter's replay when this caller asked for it with the same key."""
        if key is None or letter.replay_run_id is None:
            return None
        run = await self._run(letter.replay_run_id, letter.tenant)
        is_same = run and (run.idempotency_key, run.created_by) == (key, principal.id)
        return run if is_same else None

    async def _same_answer(
        self,
        earlier: Row[Any],
        original: Row[Any] | None,
        params: Mapping[str, Any] | None,
        principal: Caller,
    ) -> Submitted:
        wanted = params
        if wanted is None:
            wanted = earlier.params if original is None else original.params
        entry = await self._maker.entry(earlier.task, principal)
        if {**wanted, **entry.preset_params} != earlier.params:
            raise IdempotencyKeyReused(
                "This idempotency key was used before with another body.",
                hint="A dead letter is replayed once; look at its replay.",
            )
        return Submitted(
            earlier.id, earlier.task, Status.PENDING, earlier.created_at, replayed=True
        )

    async def _plan(self, filters: DeadLetterFilters, principal: Caller) -> ReplayPlan:
        now = await self._now()
        # A replay that fails at once leaves a letter that matches as well: not in this call.
        here = and_(
            matching(replace(filters, states=(LetterState.OPEN,)), principal),
            _LETTER.created_at <= now,
        )
        both = DeadLetter.__table__.outerjoin(TaskRun.__table__, HAS_RUN)
        tasks = select(_RUN.task, func.count().label("letters")).select_from(both).where(here)
        plan = ReplayPlan(here, now)
        for row in await self._all(tasks.group_by(_RUN.task)):
            if row.task is None:
                plan.skipped[DeadLetterHasNoRun.code] += row.letters
                continue
            try:
                plan.entries[row.task] = await self._maker.entry(row.task, principal)
                plan.count += row.letters
            except TaskyardError as error:
                if error.status >= 500:
                    raise
                plan.skipped[error.code] += row.letters
        return plan

    def _make_all(
        self, letters: Sequence[Row[Any]], plan: ReplayPlan, batch: ReplayBatch, principal: Caller
    ) -> list[tuple[str, NewRun]]:
        made: list[tuple[str, NewRun]] = []
        for letter in letters:
            try:
                run = self._maker.make(
                    plan.entries[letter.task],
                    letter,
                    principal,
                    trace_id=batch.trace_id,
                    batch_id=batch.id,
                    delay_seconds=batch.delay_seconds(len(made)),
                )
            except (InvalidParams, InvalidOptions, ParamsTooLarge) as error:
                plan.skipped[error.code] += 1
            else:
                made.append((letter.letter_id, run))
        return made

    def _check_rate(self, count: int, rate_per_second: float) -> None:
        seconds = (count - 1) / rate_per_second
        if seconds > self._max_delay_seconds:
            message = (
                f"the last of {count} runs would be due in {seconds:.0f} seconds;"
                f" a run may wait {self._max_delay_seconds}"
            )
            raise InvalidOptions(
                "The rate is too low.",
                errors=[FieldError(("rate_per_second",), message, "invalid_option")],
            )

    async def _now(self) -> datetime:
        rows = await self._all(select(db_now().label("now")))
        now: datetime = rows[0].now
        return now


async def _discard(
    connection: AsyncConnection, ids: Sequence[str], principal: Caller, reason: str | None
) -> int:
    statement = (
        update(DeadLetter)
        .where(_LETTER.id.in_(ids), _LETTER.discarded_at.is_(None), visible_to(principal))
        .values(discarded_at=db_now(), discarded_by=principal.id, discard_reason=reason)
        .returning(_LETTER.id)
    )
    done = list((await connection.execute(statement)).scalars())
    await write_audit(
        connection, principal, [change_of(DISCARDED, letter_id, reason) for letter_id in done]
    )
    return len(done)
