"""Attempts whose process can no longer speak: recorded by the worker's main process, which saw it.

The calls block and are guarded by the lease's owner, so a wrong or a late one changes nothing.
When the database is away the lease runs out, and the sweeper does the same later.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import literal_column, select
from sqlalchemy.engine import Connection, Row

from app.common.metrics import TASK_RETRIES, TASKS
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.dead_letter_archive import fail_for_good
from app.tasks.hot_runs import HotRuns
from app.tasks.models import TaskRun
from app.tasks.outcomes import error_document, retry_delay
from app.tasks.transitions import CANCEL_OWNED, GIVE_UP_OWNED, RECOVER_OWNED, RELEASE, write

_RUN: Final = TaskRun.__table__.c


class WorkerLost(Exception):
    """The process of an attempt died in the middle of it."""


def record_loss(databases: Databases, run_id: str, owner: str, error: Exception) -> bool:
    """End the attempt that holds the lease as `owner`: tried again after its backoff, failed for
    good when no attempt is left, cancelled when that was asked for.

    Returns False when there is no such attempt: it has recorded an outcome, or lost its lease.
    """
    with databases.sync_begin(APPLICATION_BIND) as connection:
        found = select(TaskRun.__table__).where(_RUN.id == run_id)
        row = connection.execute(found).one_or_none()
        return row is not None and _end(connection, row, owner, error)


def give_back(databases: Databases, run_id: str, owner: str) -> bool:
    """Let go of the attempt that holds the lease as `owner`, without charging it.

    Returns False when there is no such attempt.
    """
    values = {"run_id": run_id, "owner": owner, "actor": "worker", "worker": owner}
    with databases.sync_begin(APPLICATION_BIND) as connection:
        return write(connection, RELEASE, values) is not None


def held_by(databases: Databases, owner: str) -> Sequence[str]:
    """Return the runs whose lease the owner holds."""
    held = select(_RUN.id).where(literal_column("status = 'RUNNING'"), _RUN.lease_owner == owner)
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        return list(connection.execute(held).scalars())


def give_back_all(databases: Databases, run_ids: Sequence[str], owner: str) -> frozenset[str]:
    """Do the same for several attempts in one statement; return the ids of the runs let go of."""
    hot = HotRuns(databases)
    try:
        return hot.release(run_ids, owner)
    finally:
        hot.close()


def end_cancelled(databases: Databases, run_id: str, owner: str) -> bool:
    """End a cancelled run as CANCELLED under the attempt that holds the lease as `owner`.

    The attempt writes nothing any more. Returns False when there is no such attempt, or nobody
    cancelled its run.
    """
    detail = {"reason": "it did not stop within its grace period"}
    values = {"run_id": run_id, "owner": owner, "actor": "worker", "worker": owner}
    with databases.sync_begin(APPLICATION_BIND) as connection:
        moved = write(connection, CANCEL_OWNED, {**values, "detail": detail})
        if moved is not None:
            TASKS.labels(moved.function, moved.queue, moved.status).inc()
        return moved is not None


def _end(connection: Connection, row: Row[Any], owner: str, error: Exception) -> bool:
    told = error_document(error, retryable=True)
    detail: dict[str, Any] = {"error": told["type"]}
    values = {
        "run_id": row.id,
        "owner": owner,
        "actor": "worker",
        "worker": owner,
        "error": told,
        "detail": detail,
    }
    delay = retry_delay(row, error)
    later = {"delay_seconds": delay, "detail": {**detail, "delay_seconds": round(delay, 3)}}
    moved = write(connection, RECOVER_OWNED, {**values, **later})
    if moved is None:
        return fail_for_good(connection, GIVE_UP_OWNED, row, values, None)
    TASKS.labels(row.function, row.queue, moved.status).inc()
    TASK_RETRIES.labels(row.function, row.queue).inc()
    return True
