"""How full the queues are, and which are paused, as the metrics of `taskyard_queue_*`."""

import time

from sqlalchemy import func, select

from app.common.metrics import QUEUE_MESSAGES, QUEUE_PAUSED
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.limit_models import QueuePause
from app.tasks.models import DeadLetter, TaskRun
from app.tasks.statuses import Status
from app.tasks.transport import Transport

_KEPT_SECONDS = 5.0
_RUN = TaskRun.__table__.c
# `ready` is the broker's own count; the rest is counted in the rows, which are the truth.
_KINDS = {
    "delayed": (Status.SCHEDULED, Status.RETRYING),
    "running": (Status.RUNNING,),
}


class QueueLevels:
    """Counts at most once in five seconds, however often it is asked."""

    def __init__(self, databases: Databases, transport: Transport, queues: list[str]) -> None:
        self._databases = databases
        self._transport = transport
        self._queues = queues
        self._kept_until = 0.0

    async def refresh(self) -> None:
        """Set the gauges; a broker that does not answer leaves `ready` as it was."""
        if time.monotonic() < self._kept_until:
            return
        self._kept_until = time.monotonic() + _KEPT_SECONDS
        for queue, count in (await self._transport.backlog(self._queues)).items():
            QUEUE_MESSAGES.labels(queue, "ready").set(count)
        for kind, statuses in _KINDS.items():
            self._set(kind, await self._count_runs(statuses))
        self._set("dead", await self._count_dead_letters())
        paused = await self._paused()
        for queue in self._queues:
            QUEUE_PAUSED.labels(queue).set(queue in paused)

    def _set(self, kind: str, counts: dict[str, int]) -> None:
        # Every known queue gets a value, so that one that has become empty says 0.
        for queue in self._queues:
            QUEUE_MESSAGES.labels(queue, kind).set(counts.get(queue, 0))

    async def _count_runs(self, statuses: tuple[Status, ...]) -> dict[str, int]:
        statement = select(_RUN.queue, func.count()).where(_RUN.status.in_(statuses))
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            rows = (await connection.execute(statement.group_by(_RUN.queue))).all()
        return {row[0]: row[1] for row in rows}

    async def _paused(self) -> set[str]:
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            return set((await connection.execute(select(QueuePause.queue))).scalars())

    async def _count_dead_letters(self) -> dict[str, int]:
        statement = select(DeadLetter.queue, func.count()).group_by(DeadLetter.queue)
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            rows = (await connection.execute(statement)).all()
        return {row[0]: row[1] for row in rows}
