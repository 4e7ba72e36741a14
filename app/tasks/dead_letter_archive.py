"""The archive of what the broker gave up: every message of a dead-letter queue becomes a letter."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Select, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Row

from app.common.ids import new_id, parse_id
from app.common.metrics import TASKS
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.models import DeadLetter, TaskRun
from app.tasks.outcomes import dead_letter
from app.tasks.transitions import GIVE_UP_WAITING, HOLD_FOR_SWEEPER, Transition, write

_RUN = TaskRun.__table__.c
_LETTER = DeadLetter.__table__.c
_KEPT: Final = (
    "headers",
    "body",
    "body_encoding",
    "body_bytes",
    "content_type",
    "content_encoding",
    "fingerprint",
    "death",
    "reason",
)
_TOO_OFTEN: Final = "delivery_limit"
_REASONS: Final = {
    "rejected": "A worker refused the message: it is malformed, or its run does not exist.",
    _TOO_OFTEN: "The message was delivered too often: workers came and went before they took it.",
    "expired": "The message was not taken in time.",
    "maxlen": "The queue was full.",
}


async def archive(databases: Databases, facts: Mapping[str, Any]) -> None:
    """Keep a message that ended in a dead-letter queue; when this returns it may be acknowledged.

    `facts`: `queue` (class), `task`, `run_id` (text or None), `reason`, `headers`, `body` (text),
    `death` (the broker's history), `is_wakeup`, and what else is known of the message. A run that
    its dead letter has ended already keeps its own error. One that still waits fails when a worker
    has refused its message, and gets another message when that was delivered too often; a message
    that is not the run's own does it no harm.
    """
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.run_sync(_archive, facts)


def fail_for_good(
    connection: Connection,
    transition: Transition,
    row: Row[Any],
    values: dict[str, Any],
    message: object,
) -> bool:
    """End a run with a dead letter in the open transaction; False when the guard did not hold."""
    keep = row.options.get("on_failure") != "discard"
    origin = "run" if message is None else "broker"
    letter = dead_letter(row, values["error"], origin=origin, message=message) if keep else None
    moved = write(connection, transition, {**values, "dead_letter_id": letter and letter["id"]})
    if moved is None:
        return False
    if letter is not None and moved.status == "FAILED":
        connection.execute(insert(DeadLetter), letter)
    TASKS.labels(row.function, row.queue, moved.status).inc()
    return True


def _archive(connection: Connection, facts: Mapping[str, Any]) -> None:
    message = {name: facts.get(name) for name in _KEPT}
    run_id = _id_or_none(facts.get("run_id"))
    run = _of_run(connection, select(TaskRun.__table__), _RUN.id, run_id)
    letter = _of_run(connection, select(DeadLetter.__table__), _LETTER.run_id, run_id)
    if letter is not None and letter.message is None and facts.get("is_wakeup"):
        # The worker recorded the failure; the broker adds the history of the message.
        fill = update(DeadLetter).where(_LETTER.id == letter.id).values(message=message)
        connection.execute(fill)
    elif letter is not None and letter.message == message:
        return  # Archived before, by a process that could not acknowledge it.
    elif not (run and letter is None and _fail(connection, run, facts, message)):
        # A run that is there goes its own way: it may still need the letter of its failure.
        own_id = run_id if run is None and letter is None else None
        stray = _stray(facts, message, own_id, run)
        _keep_once(connection, stray, comes_again=bool(facts.get("redelivered")))


def _keep_once(connection: Connection, stray: dict[str, Any], *, comes_again: bool) -> None:
    """Insert a letter that no run owns, unless it was kept before a crash and now comes again.

    Messages that are equal in everything are told apart by a number: a broker gives them no name.
    One that comes again counts as kept when an equal one was.
    """
    known = [stray[name] for name in ("queue", "task", "run_id", "message")]
    digest = hashlib.sha256(orjson.dumps(known, option=orjson.OPT_SORT_KEYS)).hexdigest()
    same = select(func.coalesce(func.max(_LETTER.twin), -1) + 1).where(_LETTER.digest == digest)
    twin = int(connection.execute(same).scalar_one())
    if comes_again and twin:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    kept = dialect.insert(DeadLetter).returning(_LETTER.id)
    kept = kept.on_conflict_do_nothing(index_elements=["digest", "twin"])
    while connection.execute(kept, {**stray, "digest": digest, "twin": twin}).first() is None:
        # Another process has just kept one like it.
        if comes_again:
            return
        twin += 1


def _of_run(
    connection: Connection, statement: Select[Any], column: ColumnElement[Any], run_id: str | None
) -> Row[Any] | None:
    if run_id is None:
        return None
    row: Row[Any] | None = connection.execute(statement.where(column == run_id)).one_or_none()
    return row


def _stray(
    facts: Mapping[str, Any], message: dict[str, Any], run_id: str | None, run: Row[Any] | None
) -> dict[str, Any]:
    error = _error(facts)
    return {
        "id": new_id(),
        "run_id": run_id,
        "task": facts.get("task"),
        "queue": facts["queue"],
        "origin": "broker",
        "error_type": error["type"],
        "error_message": error["message"],
        "attempts": 0,
        "message": message,
        "tenant": None if run is None else run.tenant,
    }


def _fail(
    connection: Connection, run: Row[Any], facts: Mapping[str, Any], message: dict[str, Any]
) -> bool:
    """End the run that waits for this very message, which a worker has refused."""
    is_its_own = facts.get("is_wakeup", False) and facts.get("task") == run.function
    if not is_its_own or facts.get("reason") not in _REASONS:
        return False
    if facts["reason"] == _TOO_OFTEN:
        # Workers that come and go have worn the message out. What a run itself does to its worker
        # is counted in its attempts, so it gets another message; this one is kept beside it.
        connection.execute(HOLD_FOR_SWEEPER, {"run_id": run.id})
        return False
    error = _error(facts)
    values = {
        "run_id": run.id,
        "actor": "broker",
        "error": error,
        "detail": {"error": error["type"]},
    }
    return fail_for_good(connection, GIVE_UP_WAITING, run, values, message)


def _error(facts: Mapping[str, Any]) -> dict[str, Any]:
    reason = str(facts.get("reason") or "rejected")
    told = _REASONS.get(reason, "The broker gave the message up.")
    return {"type": reason, "message": told, "retryable": False}


def _id_or_none(text: object) -> str | None:
    try:
        return parse_id(str(text))
    except ValueError:
        return None
