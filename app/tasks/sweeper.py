"""The sweeper: what no message moves on any more, the leader of the beat processes moves on.

Any number of copies may run: one leads by lease, and every statement is guarded,
so that a former leader that wakes up late can do no harm.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, and_, select, update
from sqlalchemy.engine import Row

from app.common.ids import new_id
from app.common.logging import get_logger
from app.common.metrics import SWEPT
from app.config.settings import APPLICATION_BIND
from app.db.types import db_now, db_now_plus
from app.tasks import agenda
from app.tasks.agenda import DUTY, IS_EXPIRING, IS_RUNNING, IS_UNPUBLISHED, LEASE_SECONDS, Agenda
from app.tasks.dead_letter_archive import archive, fail_for_good
from app.tasks.frozen_sessions import end_frozen_sessions
from app.tasks.leadership import hold
from app.tasks.models import DeadLetter, TaskRun
from app.tasks.overdue import OverdueRuns
from app.tasks.requests import wakeup_of
from app.tasks.retention import Purge, Retention
from app.tasks.services import Services
from app.tasks.transitions import (
    EXPIRE,
    GIVE_UP,
    RECOVER,
    apply,
)
from app.tasks.transport import seconds_until

_LIMIT = 500
_FROZEN_SECONDS = 10.0
# How long between two looks for overdue runs, as a share of the time after which they are.
_LOOKS_FOR_OVERDUE = 1 / 6
_RUN = TaskRun.__table__.c
_IS_KEPT = and_(DeadLetter.run_id.is_not(None), DeadLetter.discarded_at.is_(None))
_LOST = {
    "type": "WorkerLost",
    "message": "The worker went silent in the middle of the attempt.",
    "retryable": True,
}
log = get_logger(__name__)


class Sweeper:
    """Sends unpublished rows again, takes back lost leases, expires, and keeps dead letters."""

    def __init__(
        self,
        services: Services,
        clock: Callable[[], float] = time.monotonic,
        *,
        expired: Sequence[Purge] = (),
    ) -> None:
        """Take the services; `expired` delete what other rooms keep for a time (`Retention`)."""
        self._services = services
        self._clock = clock
        self._databases = services.databases
        self._celery = services.settings.celery
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{new_id()[-12:]}"
        self._was_away = False
        self._spares_workers_until = clock()
        self._retention = Retention(services, expired=expired)
        self._interval = services.settings.retention.interval_seconds
        self._purge_at = 0.0
        self._overdue = OverdueRuns(
            self._databases, services.transport, self._celery.overdue_after_seconds
        )
        self._overdue_at = 0.0
        self._term: int | None = None
        self._renew_at = 0.0

    async def look(self) -> Agenda:
        """Take or renew the lead and return what there is to do, for the next `sweep`."""
        now = self._clock()
        try:
            found = await agenda.look(
                self._databases,
                self._holder,
                self._overdue.is_old,
                asks_overdue=now >= self._overdue_at,
            )
        except Exception:
            self._was_away = True
            raise
        self._note_term(now, found.term)
        if now >= self._overdue_at:
            self._overdue_at = now + self._celery.overdue_after_seconds * _LOOKS_FOR_OVERDUE
        return found

    async def sweep(self, found: Agenda | None = None) -> bool:
        """Do what the look has found; return whether this process leads, to the end of it.

        A leader that stood still between two steps ends its round when another has taken over.
        """
        found = found or await self.look()
        if found.term is None:
            return False
        for step, is_due in (
            (self._take_back_lost, found.is_due(found.lost_at)),
            (self._expire, found.is_due(found.expires_at)),
            (self._send_unpublished, found.has_unpublished),
            (self._send_overdue, found.has_overdue),
            (self._call_waiting, found.has_held),
            (self._forget_old, self._clock() >= self._purge_at),
        ):
            if self._clock() >= self._renew_at and not await self._leads():
                log.warning("leadership lost in the middle of a round", term=self._term)
                return False
            if is_due:
                await step()
        return True

    async def _forget_old(self) -> None:
        """Purge; the next sweep goes on with what the budget has left over."""
        now = self._clock()
        is_done = await self._retention.purge()
        self._purge_at = now + (self._interval if is_done else 0.0)

    async def _leads(self) -> bool:
        now = self._clock()
        try:
            term = await hold(self._databases, DUTY, self._holder, LEASE_SECONDS)
        except Exception:
            self._was_away = True
            raise
        self._note_term(now, term)
        return term is not None

    def _note_term(self, now: float, term: int | None) -> None:
        self._renew_at = now + LEASE_SECONDS / 2
        if term not in (None, self._term):
            log.info("leads the sweeps", term=term)
            self._term = term
        if self._was_away:
            # No worker could beat either; the living ones get the time for it.
            self._was_away = False
            self._spares_workers_until = self._clock() + 2 * self._celery.heartbeat_seconds

    async def archive_dead_letter(self, facts: Mapping[str, Any]) -> None:
        """Keep a message that ended in a dead-letter queue; when this returns it may be
        acknowledged.
        """
        await archive(self._databases, facts)

    async def _send_unpublished(self) -> None:
        """Send what was never confirmed, all of it as long as the broker takes it."""
        silent = db_now_plus(-self._celery.unpublished_after_seconds)
        unpublished = select(TaskRun.__table__, db_now().label("now")).where(
            IS_UNPUBLISHED, _RUN.updated_at < silent
        )
        while True:
            rows = await self._due(unpublished)
            sent = await self._send(rows, "unpublished")
            if sent < len(rows) or len(rows) < _LIMIT or self._clock() >= self._renew_at:
                return

    async def _send_overdue(self) -> None:
        """Send again what is due and was published, but whose message is gone."""
        async for lost in self._overdue.lost():
            await self._send_lost([row.id for row in lost])

    async def _send_lost(self, ids: list[str]) -> None:
        if not ids:
            return
        # What somebody has published again meanwhile is not sent once more.
        statement = (
            update(TaskRun)
            .where(_RUN.id.in_(ids), self._overdue.is_old)
            .values(published_at=None)
            .returning(*_RUN, db_now().label("now"))
        )
        async with self._databases.begin(APPLICATION_BIND) as connection:
            rows = list((await connection.execute(statement)).all())
        await self._send(rows, "overdue")

    async def _send(self, rows: list[Row[Any]], reason: str) -> int:
        wakeups = [wakeup_of(row, _seconds_until(row)) for row in rows]
        confirmed = await self._services.outbox.flush(wakeups)
        if confirmed:
            SWEPT.labels(reason).inc(len(confirmed))
            log.info("messages sent again", reason=reason, count=len(confirmed))
        return len(confirmed)

    async def _call_waiting(self) -> None:
        """Give the free slots of limits to those that wait for them."""
        SWEPT.labels("called").inc(await self._services.limiter.call_waiting())

    async def _take_back_lost(self) -> None:
        if self._clock() < self._spares_workers_until:
            return
        await end_frozen_sessions(self._databases, _FROZEN_SECONDS)
        recovered = []
        # A worker that stands still in the middle of its commit holds its row; the others' runs
        # must not wait for it.
        lost = select(TaskRun.__table__).where(IS_RUNNING, _RUN.lease_expires_at < db_now())
        for row in await self._due(lost.with_for_update(key_share=True, skip_locked=True)):
            values = {
                "run_id": row.id,
                "actor": "sweeper",
                "error": _LOST,
                "detail": {"error": _LOST["type"]},
            }
            moved = await apply(self._databases, RECOVER, {**values, "delay_seconds": 0.0})
            if moved is not None:
                recovered.append(moved)
                log.warning(
                    "attempt lost, trying again",
                    task_id=row.id,
                    task=row.task,
                    attempt=row.attempt,
                )
            elif await self._give_up(row, values):
                log.warning("run lost", task_id=row.id, task=row.task, attempt=row.attempt)

        SWEPT.labels("lost").inc(len(recovered))
        # All at once: with the broker down each call waits as long as a publish may take.
        await self._services.outbox.flush([wakeup_of(row, 0.0) for row in recovered])

    async def _give_up(self, row: Row[Any], values: dict[str, Any]) -> bool:
        async with self._databases.begin(APPLICATION_BIND) as connection:
            return await connection.run_sync(fail_for_good, GIVE_UP, row, values, None)

    async def _expire(self) -> None:
        statement = select(TaskRun.__table__).where(IS_EXPIRING, _RUN.expires_at <= db_now())
        for row in await self._due(statement):
            if (
                await apply(self._databases, EXPIRE, {"run_id": row.id, "actor": "sweeper"})
                is not None
            ):
                SWEPT.labels("expired").inc()

    async def _due(self, statement: Select[Any]) -> list[Row[Any]]:
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            return list((await connection.execute(statement.limit(_LIMIT))).all())


def _seconds_until(row: Row[Any]) -> float:
    return max(seconds_until(moment, row.now) for moment in (row.scheduled_for, row.held_until))
