"""Cancelling many runs that wait, some of them in each commit."""

from typing import Any

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now
from app.tasks.models import TaskRun, TaskRunEvent
from app.tasks.requests import Caller
from app.tasks.statuses import WAITING, Status

_CHUNK = 500
_RUN = TaskRun.__table__.c


async def cancel_waiting(
    databases: Databases, mine: ColumnElement[bool], principal: Caller
) -> list[str]:
    """Cancel the runs of a condition that wait; return their ids."""
    cancelled: list[str] = []
    while True:
        async with databases.begin(APPLICATION_BIND) as connection:
            some = await _cancel_some(connection, mine, principal)
        cancelled += some
        if len(some) < _CHUNK:
            return cancelled


async def _cancel_some(
    connection: AsyncConnection, mine: ColumnElement[bool], principal: Caller
) -> list[str]:
    waits = _RUN.status.in_(WAITING)
    # What a worker claims at this moment is running afterwards.
    some = select(_RUN.id).where(mine, waits).limit(_CHUNK)
    ids = (await connection.execute(some.with_for_update(skip_locked=True))).scalars().all()
    if not ids:
        return []
    moved = await connection.execute(
        update(TaskRun)
        .where(_RUN.id.in_(ids))
        .values(
            status=Status.CANCELLED,
            previous_status=_RUN.status,
            last_seq=_RUN.last_seq + 1,
            cancel_requested_at=db_now(),
            finished_at=db_now(),
            updated_at=db_now(),
            lease_owner=None,
            lease_expires_at=None,
        )
        .returning(_RUN.id, _RUN.last_seq, _RUN.previous_status, _RUN.attempt)
    )
    rows = moved.all()
    events: list[dict[str, Any]] = [
        {
            "run_id": row.id,
            "seq": row.last_seq,
            "from_status": row.previous_status,
            "to_status": Status.CANCELLED,
            "attempt": row.attempt,
            "actor": principal.id,
        }
        for row in rows
    ]
    await connection.execute(insert(TaskRunEvent), events)
    return [row.id for row in rows]
