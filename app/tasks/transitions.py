"""The guarded statements that move a run from one status to the next.

Each is one UPDATE whose WHERE is the guard of the state table; what changes no
row did not happen. The transition's event goes with it: in the same statement on
PostgreSQL, in the same transaction on SQLite, which knows no UPDATE inside WITH.
Statements are built once and compiled once; only their parameters change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    ColumnElement,
    Float,
    Integer,
    Select,
    String,
    and_,
    any_,
    bindparam,
    case,
    column,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Connection, Row
from sqlalchemy.sql.dml import ReturningUpdate, Update

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import IdType, JsonType, db_now, db_now_plus
from app.tasks.models import TaskRun, TaskRunEvent
from app.tasks.statuses import WAITING, Status

RUN = TaskRun.__table__.c
_EVENT = TaskRunEvent.__table__.c
_EVENT_COLUMNS = (
    "run_id", "seq", "from_status", "to_status", "attempt", "actor", "worker", "detail",
)  # fmt: skip

Params = Mapping[str, Any]
_TOLD_BY: dict[str, Any] = {"actor": "core", "worker": None, "detail": None, "ahead": 0}


def _float(name: str) -> ColumnElement[float]:
    return bindparam(name, type_=Float(53))


@dataclass(frozen=True)
class Transition:
    """A guarded UPDATE that returns the moved row, and the event that tells of it."""

    name: str
    update: ReturningUpdate[Any]

    @cached_property
    def event(self) -> Any:
        """The INSERT of the event, for the transaction in which the update has moved the row."""
        moved = (
            select(RUN.id, RUN.last_seq, RUN.previous_status, RUN.status, RUN.attempt)
            .where(RUN.id == bindparam("run_id", type_=IdType))
            .subquery()
        )
        return insert(TaskRunEvent).from_select(_EVENT_COLUMNS, _event_of(moved))

    @cached_property
    def in_one_statement(self) -> Select[Any]:
        """Update and event as one statement, for PostgreSQL."""
        moved = self.update.cte("moved")
        told = (
            insert(TaskRunEvent)
            .from_select(_EVENT_COLUMNS, _event_of(moved))
            .returning(_EVENT.id)
            .cte("told")
        )
        return select(moved).add_cte(told)


def _event_of(moved: Any) -> Select[Any]:
    return select(
        moved.c.id,
        moved.c.last_seq,
        moved.c.previous_status,
        moved.c.status,
        moved.c.attempt,
        bindparam("actor", type_=String),
        bindparam("worker", type_=String),
        bindparam("detail", type_=JsonType()),
    )


# What a caller needs of a moved row to wake it up again or to count it; only a claim needs all of
# it.
BRIEF = (
    RUN.id, RUN.task, RUN.function, RUN.status, RUN.attempt, RUN.max_attempts, RUN.fence, RUN.queue,
    RUN.priority,
    RUN.options, RUN.trace_id, RUN.scheduled_for, RUN.started_at, RUN.parent_id, RUN.limit_key,
    RUN.last_seq, RUN.previous_status,
)  # fmt: skip


def _moving(name: str, statement: Update, *columns: ColumnElement[Any]) -> Transition:
    """Return the transition; its event takes the next number of the run, behind those of `ahead`
    other things that the same commit tells.
    """
    numbered = statement.values(
        last_seq=RUN.last_seq + 1 + bindparam("ahead", type_=Integer), previous_status=RUN.status
    )
    return Transition(name, numbered.returning(*(columns or BRIEF)))


_THIS_RUN = RUN.id == bindparam("run_id", type_=IdType)
# Of several runs at once, on PostgreSQL; see `hot_runs.py`.
_THESE_RUNS = RUN.id == any_(bindparam("run_ids", type_=ARRAY(IdType)))
_THIS_ATTEMPT = and_(
    _THIS_RUN, RUN.status == Status.RUNNING, RUN.fence == bindparam("held_fence", type_=Integer)
)
_NO_LEASE = {"lease_owner": None, "lease_expires_at": None}
_ENDED = {**_NO_LEASE, "finished_at": db_now(), "updated_at": db_now()}
_WAITS = RUN.status.in_(WAITING)


def _claiming(which: ColumnElement[bool], *guards: ColumnElement[bool], **more: Any) -> Update:
    """PENDING, due SCHEDULED or RETRYING, or RUNNING under a lease that has run out -> RUNNING."""
    return (
        update(TaskRun)
        .where(
            which,
            or_(
                RUN.status == Status.PENDING,
                and_(
                    RUN.status.in_((Status.SCHEDULED, Status.RETRYING)),
                    RUN.scheduled_for <= db_now(),
                ),
                and_(RUN.status == Status.RUNNING, RUN.lease_expires_at < db_now()),
            ),
            RUN.attempt < RUN.max_attempts,
            RUN.cancel_requested_at.is_(None),
            or_(RUN.expires_at.is_(None), RUN.expires_at > db_now()),
            *guards,
        )
        .values(
            status=Status.RUNNING,
            fence=RUN.fence + 1,
            attempt=RUN.attempt + 1,
            lease_owner=bindparam("worker", type_=String),
            lease_expires_at=db_now_plus(_float("lease_seconds")),
            published_at=func.coalesce(RUN.published_at, db_now()),
            started_at=db_now(),
            updated_at=db_now(),
            progress=null(),
            **more,
        )
    )


_WHOLE = tuple(TaskRun.__table__.c)
# What an attempt needs to know of its run.
CLAIMED = (
    RUN.id, RUN.task, RUN.function, RUN.task_version, RUN.status, RUN.previous_status, RUN.last_seq,
    RUN.params, RUN.options, RUN.attempt, RUN.max_attempts, RUN.fence, RUN.queue, RUN.limit_key,
    RUN.scheduled_for, RUN.created_at, RUN.started_at, RUN.created_by, RUN.tenant, RUN.trace_id,
)  # fmt: skip
_FREE = RUN.limit_key.is_(None)

CLAIM = _moving("claim", _claiming(_THIS_RUN, _FREE), *_WHOLE)
CLAIM_MANY = _moving("claim", _claiming(_THESE_RUNS, _FREE), *CLAIMED)
# Only with the key's lock, by `app.tasks.limiting`, which has counted before.
CLAIM_LIMITED = _moving(
    "claim", _claiming(_THIS_RUN, RUN.limit_key.is_not(None), held_until=None), *_WHOLE
)


def _succeeding(which: ColumnElement[bool], **result: Any) -> Update:
    values = {"status": Status.SUCCEEDED, "error": null(), **result, **_ENDED}
    return update(TaskRun).where(which).values(values)


SUCCEED = _moving(
    "succeed",
    _succeeding(
        _THIS_ATTEMPT,
        result=bindparam("result", type_=JsonType()),
        result_ref=bindparam("result_ref", type_=String),
    ),
)

# One list for each column of what is given: the runs with their fences and results.
_GIVEN = (
    func.unnest(
        bindparam("run_ids", type_=ARRAY(IdType)),
        bindparam("held_fences", type_=ARRAY(BigInteger)),
        bindparam("results", type_=ARRAY(JSON)),
        bindparam("result_refs", type_=ARRAY(String)),
    )
    .table_valued(
        column("id", IdType),
        column("fence", BigInteger),
        column("result", JSON),
        column("ref", String),
    )
    .render_derived("given")
)
SUCCEED_MANY = _moving(
    "succeed",
    _succeeding(
        and_(RUN.id == _GIVEN.c.id, RUN.status == Status.RUNNING, RUN.fence == _GIVEN.c.fence),
        result=_GIVEN.c.result,
        result_ref=_GIVEN.c.ref,
    ),
    RUN.id, RUN.status, RUN.attempt, RUN.last_seq, RUN.previous_status,
)  # fmt: skip

FAIL = _moving(
    "fail",
    update(TaskRun)
    .where(_THIS_ATTEMPT)
    .values(
        status=Status.FAILED,
        error=bindparam("error", type_=JsonType()),
        dead_letter_id=bindparam("dead_letter_id", type_=IdType),
        **_ENDED,
    ),
)

CANCEL_RUNNING = _moving(
    "cancel_running",
    update(TaskRun).where(_THIS_ATTEMPT).values(status=Status.CANCELLED, **_ENDED),
)

_IS_WANTED = RUN.cancel_requested_at.is_(None)


def _unless_cancelled(status: ColumnElement[str]) -> dict[str, Any]:
    """A run that somebody cancelled while it ran has no next attempt: it ends here."""
    return {
        "status": case((_IS_WANTED, status), else_=literal(Status.CANCELLED, String)),
        "finished_at": case((_IS_WANTED, null()), else_=db_now()),
    }


# The next attempt waits in the broker; until its message is confirmed the row is unpublished.
RETRY = _moving(
    "retry",
    update(TaskRun)
    .where(_THIS_ATTEMPT)
    .values(
        error=bindparam("error", type_=JsonType()),
        scheduled_for=db_now_plus(_float("delay_seconds")),
        published_at=null(),
        updated_at=db_now(),
        **_unless_cancelled(literal(Status.RETRYING, String)),
        **_NO_LEASE,
    ),
)

# The worker has no code for the task: the attempt is not charged, and the run comes again later.
POSTPONE = _moving(
    "postpone",
    update(TaskRun)
    .where(_THIS_ATTEMPT)
    .values(
        attempt=RUN.attempt - 1,
        error=bindparam("error", type_=JsonType()),
        scheduled_for=db_now_plus(_float("delay_seconds")),
        published_at=null(),
        updated_at=db_now(),
        **_unless_cancelled(literal(Status.RETRYING, String)),
        **_NO_LEASE,
    ),
)

# The worker's main process speaks for an attempt whose own process can no more. The fence rises, so
# that a process that is not quite dead yet writes nothing.
_IS_OWNED = and_(RUN.status == Status.RUNNING, RUN.lease_owner == bindparam("owner", type_=String))
_OWNED = and_(_THIS_RUN, _IS_OWNED)


def _releasing(which: ColumnElement[bool]) -> Update:
    return (
        update(TaskRun)
        .where(which, _IS_OWNED)
        .values(
            attempt=RUN.attempt - 1,
            fence=RUN.fence + 1,
            scheduled_for=db_now(),
            published_at=null(),
            updated_at=db_now(),
            **_unless_cancelled(
                case(
                    (RUN.attempt > 1, literal(Status.RETRYING, String)),
                    else_=literal(Status.PENDING, String),
                )
            ),
            **_NO_LEASE,
        )
    )


# A worker that stops gives the run back; the attempt is not charged.
RELEASE = _moving("release", _releasing(_THIS_RUN))
RELEASE_MANY = _moving("release", _releasing(_THESE_RUNS))

# The attempt had its grace to see that it is cancelled; it is stopped after this.
CANCEL_OWNED = _moving(
    "cancel_owned",
    update(TaskRun)
    .where(_OWNED, RUN.cancel_requested_at.is_not(None))
    .values(status=Status.CANCELLED, fence=RUN.fence + 1, **_ENDED),
)

CANCEL_WAITING = _moving(
    "cancel_waiting",
    update(TaskRun)
    .where(_THIS_RUN, _WAITS)
    .values(status=Status.CANCELLED, cancel_requested_at=db_now(), **_ENDED),
)

EXPIRE = _moving(
    "expire",
    update(TaskRun)
    .where(_THIS_RUN, _WAITS, RUN.expires_at <= db_now())
    .values(status=Status.EXPIRED, **_ENDED),
)


def _recovering(name: str, guard: ColumnElement[bool]) -> Transition:
    return _moving(
        name,
        update(TaskRun)
        .where(guard, RUN.attempt < RUN.max_attempts, _IS_WANTED)
        .values(
            status=Status.RETRYING,
            fence=RUN.fence + 1,
            error=bindparam("error", type_=JsonType()),
            scheduled_for=db_now_plus(_float("delay_seconds")),
            published_at=null(),
            updated_at=db_now(),
            **_NO_LEASE,
        ),
    )


def _giving_up(name: str, guard: ColumnElement[bool]) -> Transition:
    return _moving(
        name,
        update(TaskRun)
        .where(guard)
        .values(
            status=case(
                (_IS_WANTED, literal(Status.FAILED, String)),
                else_=literal(Status.CANCELLED, String),
            ),
            fence=RUN.fence + 1,
            error=bindparam("error", type_=JsonType()),
            # A cancelled run leaves no dead letter.
            dead_letter_id=case((_IS_WANTED, bindparam("dead_letter_id", type_=IdType))),
            **_ENDED,
        ),
    )


# The sweeper takes a silent worker's run away; the fence rises first, so the worker can write no
# more.
_SILENT = and_(_THIS_RUN, RUN.status == Status.RUNNING, RUN.lease_expires_at < db_now())
RECOVER = _recovering("recover", _SILENT)
GIVE_UP = _giving_up("give_up", _SILENT)
# The same by the worker itself, which saw the attempt's process die and need not wait.
RECOVER_OWNED = _recovering("recover_owned", _OWNED)
GIVE_UP_OWNED = _giving_up("give_up_owned", _OWNED)
# The broker gave the message up before any attempt could end the run.
GIVE_UP_WAITING = _moving(
    "give_up_waiting",
    update(TaskRun)
    .where(_THIS_RUN, _WAITS)
    .values(
        status=Status.FAILED,
        fence=RUN.fence + 1,
        error=bindparam("error", type_=JsonType()),
        dead_letter_id=bindparam("dead_letter_id", type_=IdType),
        **_ENDED,
    ),
)


async def apply(databases: Databases, transition: Transition, params: Params) -> Row[Any] | None:
    """Make the transition in a transaction of its own; return the moved row, None when the guard
    did not hold.
    """
    values = {**_TOLD_BY, **params}
    if databases.dialect(APPLICATION_BIND) == "postgresql":
        async with databases.autocommit(APPLICATION_BIND) as connection:
            result = await connection.execute(transition.in_one_statement, values)
            row: Row[Any] | None = result.one_or_none()
            return row
    async with databases.begin(APPLICATION_BIND) as connection:
        return await connection.run_sync(write, transition, values)


def write(connection: Connection, transition: Transition, params: Params) -> Row[Any] | None:
    """Make the transition in the connection's open transaction; return the moved row, or None."""
    values = {**_TOLD_BY, **params}
    row: Row[Any] | None = connection.execute(transition.update, values).one_or_none()
    if row is not None:
        connection.execute(transition.event, values)
    return row


MARK_PUBLISHED = (
    update(TaskRun)
    .where(
        _THIS_RUN, RUN.fence == bindparam("held_fence", type_=Integer), RUN.published_at.is_(None)
    )
    .values(published_at=db_now(), updated_at=db_now())
)

HOLD_FOR_SWEEPER = (
    update(TaskRun).where(_THIS_RUN, _WAITS).values(published_at=null(), updated_at=db_now())
)

REQUEST_CANCEL = (
    update(TaskRun)
    .where(_THIS_RUN, RUN.status == Status.RUNNING)
    .values(
        cancel_requested_at=func.coalesce(RUN.cancel_requested_at, db_now()), updated_at=db_now()
    )
    .returning(RUN.id)
)

# What is asked of a run that a claim has left out; see `unclaimed.py`.
_LOOK = select(*BRIEF, RUN.expires_at, RUN.lease_expires_at, db_now().label("now"))
LOOK = _LOOK.where(_THIS_RUN)
LOOK_MANY = _LOOK.where(_THESE_RUNS)
