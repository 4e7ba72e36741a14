"""Writing a new run: its row and its first event, in the transaction that the caller has open."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Float, insert, literal, null
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.types import db_now, db_now_plus
from app.tasks.errors import RunAlreadyExists
from app.tasks.models import TaskRun, TaskRunEvent
from app.tasks.requests import NewRun

_RUNS = TaskRun.__table__.c
_ANSWER = (
    _RUNS.id,
    _RUNS.task,
    _RUNS.status,
    _RUNS.created_at,
    _RUNS.scheduled_for,
    db_now().label("now"),
)


async def insert_run(connection: AsyncConnection, run: NewRun, *, actor: str) -> Row[Any]:
    """Insert a run and its first event in the open transaction; RunAlreadyExists for a known id."""
    try:
        row = (await connection.execute(insert_statement(run))).one()
    except IntegrityError as error:
        raise RunAlreadyExists(f"The run '{run.id}' exists already.") from error
    await connection.execute(insert(TaskRunEvent), first_event(run, actor))
    return row


def insert_statement(run: NewRun) -> Any:
    """Return the INSERT of a run; due times are counted on the database's clock."""
    scheduled_for: Any = null()
    if run.delay_seconds is not None:
        scheduled_for = db_now_plus(sa.cast(literal(run.delay_seconds), Float(53)))
    elif run.run_at is not None:
        scheduled_for = run.run_at
    return insert(TaskRun).values(**run.row, scheduled_for=scheduled_for).returning(*_ANSWER)


def first_event(run: NewRun, actor: str) -> dict[str, Any]:
    """Return the row of the event with which a run begins."""
    return {
        "run_id": run.id,
        "from_status": None,
        "to_status": run.row["status"],
        "attempt": 0,
        "actor": actor,
    }
