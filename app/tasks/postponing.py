"""Runs whose task this process has no code for: given back until a worker knows it, not for ever.

It happens while old and new workers run side by side and after a rollback of code. The run is
RETRYING with the reason in its error, and no attempt is charged.
"""

from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.engine import Row

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now
from app.tasks.errors import TaskNotRegistered
from app.tasks.models import TaskRun, TaskRunEvent
from app.tasks.outcomes import Outcome, Told, error_document, failed
from app.tasks.statuses import Status
from app.tasks.transitions import POSTPONE

_RUN = TaskRun.__table__.c
_EVENT = TaskRunEvent.__table__.c
_REASON: Final = TaskNotRegistered.__name__
# Soon at first: beside this worker there may be one that knows the task.
_FIRST_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 300.0
_MOST_EVENTS: Final = 2000


async def function_of(databases: Databases, run_id: str) -> str | None:
    """Return the name of the function that a run calls; None when there is no such run."""
    statement = select(_RUN.function).where(_RUN.id == run_id)
    async with databases.autocommit(APPLICATION_BIND) as connection:
        return (await connection.execute(statement)).scalar_one_or_none()


async def postponed(databases: Databases, claim: Row[Any], patience_seconds: float) -> Outcome:
    """Return the end of an attempt without code: another wait, each longer than the one before,
    or a failure with a dead letter when the patience is over.
    """
    times, waited_seconds = await _waits(databases, claim.id)
    error = TaskNotRegistered(f"No worker knows the task '{claim.function}'.")
    if waited_seconds >= patience_seconds:
        return failed(claim, error, (), Told())
    delay = min(_FIRST_SECONDS * 2.0 ** min(times, 20), _LONGEST_SECONDS)
    values = {
        "error": error_document(error, retryable=True),
        "delay_seconds": delay,
        "detail": {"error": _REASON, "delay_seconds": delay},
    }
    return Outcome(POSTPONE, values, delay)


async def _waits(databases: Databases, run_id: str) -> tuple[int, float]:
    """Return how often the run was given back in a row, and the seconds since the first time."""
    statement = (
        select(_EVENT.to_status, _EVENT.detail, _EVENT.at, db_now().label("now"))
        .where(_EVENT.run_id == run_id)
        .order_by(_EVENT.seq.desc())
        .limit(_MOST_EVENTS)
    )
    async with databases.autocommit(APPLICATION_BIND) as connection:
        events: list[Any] = list((await connection.execute(statement)).all())
    times, seconds = 0, 0.0
    for event in events:
        if event.to_status == Status.RETRYING and (event.detail or {}).get("error") == _REASON:
            times += 1
            seconds = (event.now - event.at).total_seconds()
        elif event.to_status != Status.RUNNING:
            break
    return times, seconds
