"""Leases are beaten from the worker's main process, so a busy child does not lose its run."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, literal_column, or_, select, tuple_, update

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now, db_now_plus
from app.tasks.models import TaskRun
from app.tasks.statuses import Status

_RUN = TaskRun.__table__.c
# Written out, not bound: a partial index serves only a condition that the planner can read.
_IS_WAITING: ColumnElement[bool] = literal_column("status IN ('PENDING', 'SCHEDULED', 'RETRYING')")


def beat_leases(
    databases: Databases, worker: str, active: Collection[tuple[str, int]], lease_seconds: float
) -> frozenset[tuple[str, int]]:
    """Renew the leases of the active attempts, given as (run id, process id), in one statement.

    Returns those whose lease is still this worker's. An attempt that was in an earlier answer and
    is not in this one has lost its run: it must stop.
    """
    if not active:
        return frozenset()
    attempts = {(run_id, f"{worker}:{pid}"): (run_id, pid) for run_id, pid in active}
    statement = (
        update(TaskRun)
        .where(_RUN.status == Status.RUNNING, tuple_(_RUN.id, _RUN.lease_owner).in_(attempts))
        .values(lease_expires_at=db_now_plus(lease_seconds), updated_at=db_now())
        .returning(_RUN.id, _RUN.lease_owner)
    )
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        rows = connection.execute(statement).all()
    return frozenset(attempts[row.id, row.lease_owner] for row in rows)


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
            _RUN.queue.in_(queues),
        )
        .limit(1)
    )
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        return connection.execute(overlooked).one_or_none() is not None
