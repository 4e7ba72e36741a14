"""Queues as operators see them: how full they are, and whether they are paused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import String, and_, case, cast, delete, func, null, or_, select, union_all
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Row

from app.common.errors import Forbidden
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now
from app.tasks.audit import Change, write_audit
from app.tasks.errors import QueueNotFound
from app.tasks.limit_models import QueuePause
from app.tasks.models import DeadLetter, TaskRun
from app.tasks.requests import Caller
from app.tasks.statuses import WAITING, Status
from app.tasks.transport import QueueLevel, Transport
from app.tasks.worker_models import WorkerPresence

_RUN = TaskRun.__table__.c
_PAUSE = QueuePause.__table__.c
_WORKER = WorkerPresence.__table__.c
_WAITS: Final = _RUN.status.in_(WAITING)
_IS_LATER: Final = or_(_RUN.scheduled_for > db_now(), _RUN.held_until > db_now())


@dataclass(frozen=True, kw_only=True)
class QueueState:
    """One class of queues. `ready` and `consumers` are the broker's and None while it is away.

    `unacknowledged` are the runs under way: each holds its message until it ends. `delayed` wait
    for their due time, their next attempt or their limit. `oldest_age_seconds` is that of the
    longest waiting run that is due.
    """

    name: str
    ready: int | None
    unacknowledged: int
    delayed: int
    dead: int
    oldest_age_seconds: float | None
    consumers: int | None
    pause: Row[Any] | None


class Queues:
    """Levels and pauses of the installation's queues; they are shared by all tenants."""

    def __init__(self, databases: Databases, transport: Transport, names: Sequence[str]) -> None:
        self._databases = databases
        self._transport = transport
        self._names = tuple(names)

    async def list(self) -> list[QueueState]:
        """Return every class of queues, by name."""
        levels = await self._transport.levels(self._names)
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            runs = {row.queue: row for row in await connection.execute(_RUNS_BY_QUEUE)}
            dead = {row.queue: row.dead for row in await connection.execute(_DEAD_BY_QUEUE)}
            pauses = {row.queue: row for row in await connection.execute(_PAUSES)}
        return [
            _state(name, levels.get(name), runs.get(name), dead.get(name, 0), pauses.get(name))
            for name in self._names
        ]

    async def get(self, name: str) -> QueueState:
        """Return one class of queues; QueueNotFound when there is none of this name."""
        self._check(name)
        return next(state for state in await self.list() if state.name == name)

    async def pause(self, name: str, caller: Caller, *, reason: str | None = None) -> QueueState:
        """Let no worker take work of the class from its queues; a second pause changes nothing.

        Raises QueueNotFound, and Forbidden for a caller who belongs to a tenant.
        """
        self._check(name)
        _check_operator(caller)
        sqlite_like = self._databases.dialect(APPLICATION_BIND) == "sqlite"
        pause = (sqlite if sqlite_like else postgresql).insert(QueuePause)
        pause = pause.values(queue=name, reason=reason, paused_by=caller.id)
        async with self._databases.begin(APPLICATION_BIND) as connection:
            made = await connection.execute(
                pause.on_conflict_do_nothing(index_elements=["queue"]).returning(_PAUSE.queue)
            )
            if made.one_or_none() is not None:
                await write_audit(connection, caller, [_change("queue.pause", name, reason)])
        return await self.get(name)

    async def resume(self, name: str, caller: Caller, *, reason: str | None = None) -> QueueState:
        """Let the workers take work of the class again; errors as for `pause`."""
        self._check(name)
        _check_operator(caller)
        async with self._databases.begin(APPLICATION_BIND) as connection:
            ended = await connection.execute(delete(QueuePause).where(_PAUSE.queue == name))
            if ended.rowcount:
                await write_audit(connection, caller, [_change("queue.resume", name, reason)])
        return await self.get(name)

    async def pause_of(self, name: str) -> Row[Any] | None:
        """Return who paused the class when and why; None when it is not paused."""
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            return (await connection.execute(_PAUSES.where(_PAUSE.queue == name))).one_or_none()

    async def level_of(self, name: str) -> QueueLevel | None:
        """Return what the broker says of the class; None while it says nothing."""
        return (await self._transport.levels([name])).get(name)

    def _check(self, name: str) -> None:
        if name not in self._names:
            raise QueueNotFound(
                f"No queue is called {name[:100]!r}.",
                hint=f"There are: {', '.join(self._names)}.",
            )


def pauses_of(databases: Databases, worker: str) -> frozenset[str] | None:
    """Return the paused classes, None when the worker is drained; it blocks, for the main process
    of a worker.
    """
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        return read_pauses(connection, worker)


def read_pauses(connection: Connection, worker: str) -> frozenset[str] | None:
    """`pauses_of` on an open connection."""
    return pauses_in(connection, select(_WORKER.drained_at).where(_WORKER.name == worker))


def pauses_in(connection: Connection, worker: Any) -> frozenset[str] | None:
    """Return what `pauses_of` does; the statement `worker` gives `drained_at` of the worker."""
    told = worker.cte("told")
    drained = select(cast(null(), String)).where(told.c.drained_at.is_not(None))
    found = connection.execute(union_all(select(_PAUSE.queue), drained)).scalars().all()
    return None if None in found else frozenset(found)


def _check_operator(caller: Caller) -> None:
    if caller.tenant is not None:
        raise Forbidden(
            "A queue is shared by all tenants.",
            hint="Ask an operator of the installation, whose account belongs to no tenant.",
        )


def _change(action: str, name: str, reason: str | None) -> Change:
    return Change(action=action, object_type="queue", object_id=name, reason=reason)


def _state(
    name: str,
    level: QueueLevel | None,
    runs: Row[Any] | None,
    dead: int,
    pause: Row[Any] | None,
) -> QueueState:
    return QueueState(
        name=name,
        ready=None if level is None else level.ready,
        unacknowledged=0 if runs is None else runs.running,
        delayed=0 if runs is None else runs.delayed,
        dead=dead,
        oldest_age_seconds=None if runs is None else _age(runs.oldest, runs.now),
        consumers=None if level is None else level.consumers,
        pause=pause,
    )


def _age(oldest: datetime | None, now: datetime) -> float | None:
    return None if oldest is None else max(0.0, round((now - oldest).total_seconds(), 3))


def _count(condition: Any) -> Any:
    return func.sum(case((condition, 1), else_=0))


_RUNS_BY_QUEUE: Final = (
    select(
        _RUN.queue,
        _count(_RUN.status == Status.RUNNING).label("running"),
        _count(and_(_WAITS, _IS_LATER)).label("delayed"),
        func.min(
            case(
                (
                    and_(_WAITS, _IS_LATER.is_not(True)),
                    func.coalesce(_RUN.scheduled_for, _RUN.created_at),
                )
            )
        ).label("oldest"),
        db_now().label("now"),
    )
    .where(_RUN.status.in_((*WAITING, Status.RUNNING)))
    .group_by(_RUN.queue)
)
_DEAD_BY_QUEUE: Final = (
    select(DeadLetter.queue, func.count().label("dead"))
    .where(DeadLetter.replayed_at.is_(None), DeadLetter.discarded_at.is_(None))
    .group_by(DeadLetter.queue)
)
_PAUSES: Final = select(QueuePause.__table__)
