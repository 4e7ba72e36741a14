"""The line of a limit's key, in SQL: who runs under it, who waits for it, who is called next."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Float, Select, Text, and_, bindparam, case, func, null, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Row

from app.db.types import IdType, db_now, db_now_plus
from app.tasks.limit_models import QueuePause, RateBucket
from app.tasks.models import TaskRun
from app.tasks.statuses import WAITING, Status
from app.tasks.transitions import BRIEF

_RUN = TaskRun.__table__.c
_BUCKET = RateBucket.__table__.c

# So long a run that was called keeps its place before younger ones; its message may be lost.
_CALLED_SECONDS: Final = 5.0
# Places in a line are counted so far; it bounds what a look at a long line costs.
_LONGEST_COUNT: Final = 2000
_MOST_KEYS: Final = 5000

# Waits for the key at most as long as a claim may take, and gives it back if this process is
# stopped in the middle. The next statement sees what the last holder of the lock has committed.
_LOCK: Final = text(
    "SELECT set_config('lock_timeout', '3s', true),"
    " set_config('idle_in_transaction_session_timeout', '10s', true),"
    " pg_advisory_xact_lock(hashtextextended(:key, 5))"
).bindparams(bindparam("key", type_=Text))

_KEY: Final = bindparam("key", type_=Text)
_THIS: Final = bindparam("run_id", type_=IdType)
_IS_LIVE: Final = _RUN.finished_at.is_(None)
_WAITS: Final = _RUN.status.in_(WAITING)
# What waits on a paused queue cannot come when it is called, and must not keep others waiting.
_CAN_COME: Final = _RUN.queue.not_in(select(QueuePause.queue))
IS_HELD: Final = and_(_IS_LIVE, _WAITS, _RUN.held_until > db_now_plus(-_CALLED_SECONDS), _CAN_COME)
_HOLDS: Final = (_RUN.status == Status.RUNNING, _RUN.lease_expires_at >= db_now())


@dataclass(frozen=True, slots=True)
class Line:
    """What a key looks like from the place of one run.

    `running` others hold a slot, `ahead` older ones wait (counted up to a bound). `next_at` is the
    next start at an even pace, None for a rate that was never used. `held_until` is the run's own.
    """

    running: int
    ahead: int
    next_at: datetime | None
    held_until: datetime | None
    now: datetime


@dataclass(frozen=True, slots=True)
class WaitingKey:
    """A key that somebody waits for: how many hold a slot, and how many are called to take one."""

    limit_key: str
    function: str
    running: int
    called: int


def lock(connection: Connection, key: str) -> None:
    """Let no other transaction decide about the key until this one ends.

    On SQLite the transaction has locked the whole database at its beginning.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"key": key})


def look(connection: Connection, run: Row[Any]) -> Line:
    """Return the line of a run's key, seen from its place."""
    row = connection.execute(_LOOK, {"key": run.limit_key, "run_id": run.id}).one()
    return Line(row.running, row.ahead, row.next_at, row.held_until, row.now)


def waiting_keys(connection: Connection) -> list[WaitingKey]:
    """Return the keys that somebody waits for."""
    rows = connection.execute(_WAITING_KEYS)
    return [WaitingKey(row.limit_key, row.function, row.running, row.called) for row in rows]


def hold(connection: Connection, run_id: str, seconds: float) -> Row[Any] | None:
    """Let the run wait; None when it waits no more. Its message is still to be sent."""
    return connection.execute(_HOLD, {"run_id": run_id, "seconds": seconds}).one_or_none()


def call(connection: Connection, key: str, count: int) -> list[Row[Any]]:
    """Let the runs that wait longest come now, at most so many; return what their messages need."""
    statement = _CALL_SKIPPING if connection.dialect.name == "postgresql" else _CALL
    return list(connection.execute(statement, {"key": key, "count": count}))


def use_rate(connection: Connection, key: str, next_at: datetime) -> None:
    """Write down when the next start is due."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    written = dialect.insert(RateBucket).values(limit_key=key, next_at=next_at)
    connection.execute(
        written.on_conflict_do_update(
            index_elements=["limit_key"], set_={"next_at": written.excluded.next_at}
        )
    )


def holders(limit: int) -> Select[Any]:
    """Return the query of the runs that hold a slot of `key`, the oldest first."""
    return (
        select(_RUN.id, _RUN.tenant, _RUN.started_at)
        .where(_RUN.limit_key == _KEY, _IS_LIVE, *_HOLDS)
        .order_by(_RUN.id)
        .limit(limit)
    )


def _look() -> Select[Any]:
    running = (
        select(func.count())
        .select_from(TaskRun)
        .where(_RUN.limit_key == _KEY, _IS_LIVE, *_HOLDS, _RUN.id != _THIS)
    )
    older = (
        select(_RUN.id)
        .where(
            _RUN.limit_key == _KEY,
            _IS_LIVE,
            _WAITS,
            _RUN.held_until > db_now_plus(-_CALLED_SECONDS),
            _RUN.id < _THIS,
            _CAN_COME,
        )
        .limit(_LONGEST_COUNT)
        .subquery()
    )
    return select(
        running.scalar_subquery().label("running"),
        select(func.count()).select_from(older).scalar_subquery().label("ahead"),
        select(_BUCKET.next_at).where(_BUCKET.limit_key == _KEY).scalar_subquery().label("next_at"),
        select(_RUN.held_until).where(_RUN.id == _THIS).scalar_subquery().label("held_until"),
        db_now().label("now"),
    )


def _waiting_keys() -> Select[Any]:
    waiting = (
        select(
            _RUN.limit_key,
            func.min(_RUN.function).label("function"),
            func.sum(case((_RUN.held_until <= db_now(), 1), else_=0)).label("called"),
        )
        .where(IS_HELD)
        .group_by(_RUN.limit_key)
        .limit(_MOST_KEYS)
        .subquery()
    )
    holder = TaskRun.__table__.alias("holder")
    running = (
        select(func.count())
        .select_from(holder)
        .where(
            holder.c.limit_key == waiting.c.limit_key,
            holder.c.finished_at.is_(None),
            holder.c.status == Status.RUNNING,
            holder.c.lease_expires_at >= db_now(),
        )
    )
    return select(
        waiting.c.limit_key,
        waiting.c.function,
        waiting.c.called,
        running.scalar_subquery().label("running"),
    )


def _call(*, skip_locked: bool) -> Any:
    first = (
        select(_RUN.id)
        .where(_RUN.limit_key == _KEY, _IS_LIVE, _WAITS, _RUN.held_until > db_now(), _CAN_COME)
        .order_by(_RUN.id)
        .limit(bindparam("count"))
    )
    if skip_locked:
        first = first.with_for_update(skip_locked=True)
    line = first.cte("line")
    return (
        update(TaskRun)
        .where(_RUN.id.in_(select(line.c.id)), _WAITS)
        .values(held_until=db_now(), published_at=null(), updated_at=db_now())
        .returning(*BRIEF)
    )


_LOOK: Final = _look()
_WAITING_KEYS: Final = _waiting_keys()
_CALL: Final = _call(skip_locked=False)
_CALL_SKIPPING: Final = _call(skip_locked=True)
_HOLD: Final = (
    update(TaskRun)
    .where(_RUN.id == _THIS, _WAITS)
    .values(
        held_until=db_now_plus(bindparam("seconds", type_=Float(53))),
        published_at=null(),
        updated_at=db_now(),
    )
    .returning(*BRIEF)
)
