"""Leases are beaten from the worker's main process, so a busy child does not lose its run."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, literal_column, or_, select, tuple_, update

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now, db_now_plus
from app.tasks.models import TaskRun
from app.tasks.statuses import Status

_RUN = TaskRun.__table__.c
# Written out, not bound: a partial index serves only a condition that the planner can read.
_IS_WAITING: ColumnElement[bool] = literal_column("status IN ('PENDING', 'SCHEDULED', 'RETRYING')")


Attempt = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Beat:
    """The attempts, as (run id, process id), whose lease is still the worker's.

    `cancelled` are those of them that were asked to stop longer ago than their grace period.
    """

    owned: frozenset[Attempt] = frozenset()
    cancelled: frozenset[Attempt] = frozenset()


def beat_leases(
    databases: Databases,
    worker: str,
    active: Collection[Attempt],
    *,
    lease_seconds: float,
    cancel_grace_seconds: float,
) -> Beat:
    """Renew the leases of the active attempts, given as (run id, process id), in one statement.

    An attempt that was in an earlier answer and is not in this one has lost its run: it must stop.
    """
    if not active:
        return Beat()
    attempts = {(run_id, f"{worker}:{pid}"): (run_id, pid) for run_id, pid in active}
    asked = _RUN.cancel_requested_at
    is_due = and_(asked.is_not(None), asked <= db_now_plus(-cancel_grace_seconds))
    statement = (
        update(TaskRun)
        .where(_RUN.status == Status.RUNNING, tuple_(_RUN.id, _RUN.lease_owner).in_(attempts))
        .values(lease_expires_at=db_now_plus(lease_seconds), updated_at=db_now())
        .returning(_RUN.id, _RUN.lease_owner, is_due.label("is_due"))
    )
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        rows = connection.execute(statement).all()
    owned = {attempts[row.id, row.lease_owner]: row.is_due for row in rows}
    return Beat(frozenset(owned), frozenset(attempt for attempt in owned if owned[attempt]))


def is_overlooked(databases: Databases, queues: Collection[str], seconds: float) -> bool:
    """Return whether a run of the queues has been due, and on the broker, for so long."""
    old = db_now_plus(-seconds)
    overlooked = (
        select(_RUN.id)
        .where(
            _IS_WAITING,
            _RUN.published_at < old,
            or_(_RUN.scheduled_for.is_(None), _RUN.scheduled_for < old),
            or_(_RUN.held_until.is_(None), _RUN.held_until < old),
            or_(_RUN.held_until.is_(None), _RUN.held_until < old),
            _RUN.queue.in_(queues),
        )
        .limit(1)
    )
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        return connection.execute(overlooked).one_or_none() is not None
