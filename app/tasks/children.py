"""Writing the child runs of an attempt, in the transaction of its outcome."""

from dataclasses import replace

from sqlalchemy import insert
from sqlalchemy.engine import Connection

from app.db.types import db_now
from app.tasks.insertion import first_event, write_run
from app.tasks.models import TaskRun, TaskRunEvent
from app.tasks.requests import NewRun
from app.tasks.statuses import Status


def insert_children(connection: Connection, children: list[NewRun]) -> None:
    """Insert the children with their first events, in as few statements as can be."""
    parent = f"run:{children[0].row['parent_id']}"
    known = [child for child in children if child.has_ended]
    if known:
        statement = insert(TaskRun).values(finished_at=db_now())
        connection.execute(statement, [child.row for child in known])
    plain = [child for child in children if not child.has_ended and _is_plain(child)]
    if plain:
        connection.execute(insert(TaskRun), [child.row for child in plain])
    if written := known + plain:
        connection.execute(insert(TaskRunEvent), [first_event(child, parent) for child in written])
    # Keys in a fixed order: two outcomes with the same unique children never wait for each other.
    others = [child for child in children if not child.has_ended and not _is_plain(child)]
    for child in sorted(others, key=lambda child: child.row["unique_key"] or ""):
        row = write_run(connection, child, parent)
        if row.id != child.id:
            write_run(connection, _as_duplicate(child, row.id), parent)


def _is_plain(child: NewRun) -> bool:
    """Return whether the child's row is its values, and no other run can be in its place."""
    return child.delay_seconds is None and child.run_at is None and not child.unique_for_seconds


def _as_duplicate(child: NewRun, equal_id: str) -> NewRun:
    """Return a child that ended before it began. Its task's id was given away already, and an
    equal run was accepted since.
    """
    message = f"An equal run was accepted at the same moment: {equal_id}."
    row = {
        **child.row,
        "status": Status.CANCELLED,
        "unique_key": None,
        "finished_at": db_now(),
        "error": {"type": "DuplicateRun", "message": message, "retryable": False},
    }
    return replace(child, row=row, delay_seconds=None, run_at=None, unique_for_seconds=None)
