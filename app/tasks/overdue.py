"""Runs whose message is gone: published, due, and yet on their way to no worker.

There are two signs. The run's queue is empty; or it is not, and a run that came to it much later
with the same priority has started. A message that is only late costs a second one, which the claim
of the first makes harmless.
"""

from collections.abc import AsyncIterator, Collection
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, literal_column, or_, select
from sqlalchemy.engine import Row

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now, db_now_plus
from app.tasks.limit_models import QueuePause
from app.tasks.models import TaskRun
from app.tasks.transport import Transport

_LIMIT = 500
_RUN: Final = TaskRun.__table__.c
# Written out, not bound: a partial index serves only a condition that the planner can read.
_IS_RUNNING: Final[ColumnElement[bool]] = literal_column("status = 'RUNNING'")
_IS_WAITING: Final[ColumnElement[bool]] = literal_column(
    "status IN ('PENDING', 'SCHEDULED', 'RETRYING')"
)
# When the last of some runs came to its queue: when it was due, else when it was sent.
_CAME_AT: Final = func.max(func.coalesce(_RUN.scheduled_for, _RUN.published_at))


class OverdueRuns:
    """Looks for runs that have been due, and on the broker, for so many seconds."""

    def __init__(self, databases: Databases, transport: Transport, seconds: float) -> None:
        self._databases = databases
        self._transport = transport
        self._margin = timedelta(seconds=seconds)
        old = db_now_plus(-seconds)
        self.is_old = and_(
            _IS_WAITING,
            _RUN.published_at < old,
            or_(_RUN.scheduled_for.is_(None), _RUN.scheduled_for < old),
            or_(_RUN.held_until.is_(None), _RUN.held_until < old),
            # A paused queue is empty for its workers only; its messages are there.
            _RUN.queue.not_in(select(QueuePause.queue)),
        )

    async def lost(self) -> AsyncIterator[list[Row[Any]]]:
        """Yield the runs whose message is gone, some of them at a time, with the time as `now`."""
        passed_over: set[str] = set()
        busy: set[str] = set()
        # A long queue must not hide an emptied one behind the limit of one look.
        while rows := await self._some(_RUN.queue.not_in(passed_over)):
            queues = {row.queue for row in rows}
            backlog = await self._transport.backlog(sorted(queues))
            yield [row for row in rows if backlog.get(row.queue) == 0]
            passed_over |= queues
            busy |= {queue for queue in queues if backlog.get(queue)}
        if busy:
            yield await self._overtaken(busy)

    async def _overtaken(self, queues: Collection[str]) -> list[Row[Any]]:
        latest = select(_RUN.queue, _RUN.priority, _CAME_AT.label("came_at"))
        latest = latest.where(_IS_RUNNING, _RUN.queue.in_(queues))
        running = await self._all(latest.group_by(_RUN.queue, _RUN.priority))
        if not running:
            return []
        return await self._some(
            or_(*(_came_before(row, row.came_at - self._margin) for row in running))
        )

    async def _some(self, condition: ColumnElement[bool]) -> list[Row[Any]]:
        oldest = select(TaskRun.__table__, db_now().label("now")).where(self.is_old, condition)
        return await self._all(oldest.order_by(_RUN.published_at).limit(_LIMIT))

    async def _all(self, statement: Any) -> list[Row[Any]]:
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            return list((await connection.execute(statement)).all())


def _came_before(running: Row[Any], moment: datetime) -> ColumnElement[bool]:
    """The runs that should have started before that one, which came after the moment."""
    return and_(
        _RUN.queue == running.queue,
        # Another priority can be another queue of the class, with a shorter line.
        _RUN.priority == running.priority,
        _RUN.published_at < moment,
        or_(_RUN.scheduled_for.is_(None), _RUN.scheduled_for < moment),
        or_(_RUN.held_until.is_(None), _RUN.held_until < moment),
    )
