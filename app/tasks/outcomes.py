"""How an attempt ended, and the one commit that records it.

Nothing is atomic across two databases: the attempt's fence is checked first under
a row lock, the other binds commit next, the application database last. A crash in
between repeats an attempt whose effects elsewhere are idempotent by `task_id`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import insert, text
from sqlalchemy.engine import Connection, Row
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from app.common import failpoints
from app.common.errors import TaskyardError
from app.common.ids import new_id
from app.common.metrics import STALE_WRITES
from app.common.redaction import mask_text
from app.common.strict_json import keepable
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.children import insert_children
from app.tasks.errors import RunCancelled, StaleAttempt
from app.tasks.journal import Entry, insert_entries, unwritten
from app.tasks.models import DeadLetter, TaskRun
from app.tasks.requests import NewRun
from app.tasks.results import EncodedResult
from app.tasks.retry import Backoff, Fatal, Retry
from app.tasks.transitions import CANCEL_RUNNING, FAIL, RETRY, SUCCEED, Transition, apply, write

MAX_MESSAGE = 4000
# A worker that stands still between its outcome and its commit must not keep the row locked: the
# database ends such a session, and the sweeper can take the run back.
_COMMIT_SOON = text("SET LOCAL idle_in_transaction_session_timeout = '10s'")
Sessions = Mapping[str, AsyncSession | Session]


@dataclass(frozen=True)
class Told:
    """What the attempt has told and nobody has written yet; `unsure` when an earlier try to write
    it may have been committed.
    """

    entries: Sequence[Entry] = ()
    attempt: int = 0
    unsure: bool = False


@dataclass(frozen=True)
class Outcome:
    """The end of an attempt: the transition with its values, and what is committed together with
    it. `seconds` is what the function took, None when it was not called.
    """

    transition: Transition
    values: dict[str, Any]
    retry_after_seconds: float | None = None
    dead_letter: dict[str, Any] | None = None
    told: Told = field(default_factory=Told)
    children: list[NewRun] = field(default_factory=list)
    seconds: float | None = None

    @property
    def is_alone(self) -> bool:
        """Whether the transition is all that has to be written."""
        return not (self.dead_letter or self.told.entries or self.children)

    @property
    def is_plain_success(self) -> bool:
        """Whether the attempt has left its result and nothing else."""
        return self.transition is SUCCEED and self.is_alone


def succeeded(result: EncodedResult, told: Told, children: list[NewRun]) -> Outcome:
    """Return the outcome of a function that returned."""
    return Outcome(
        SUCCEED, {"result": result.value, "result_ref": result.ref}, told=told, children=children
    )


def failed(
    claim: Row[Any],
    error: BaseException,
    retry_on: tuple[type[BaseException], ...],
    told: Told,
) -> Outcome:
    """Return the outcome of a function that raised: another attempt, cancelled, or failed
    for good.
    """
    if isinstance(error, RunCancelled):
        return Outcome(CANCEL_RUNNING, {}, told=told)
    retryable = is_retryable(error, retry_on)
    document = error_document(error, retryable=retryable)
    if retryable and claim.attempt < claim.max_attempts:
        delay = retry_delay(claim, error)
        detail = {"error": document["type"], "delay_seconds": round(delay, 3)}
        values = {"error": document, "delay_seconds": delay, "detail": detail}
        return Outcome(RETRY, values, delay, told=told)
    letter = (
        None
        if claim.options.get("on_failure") == "discard"
        else dead_letter(claim, document, origin="run")
    )
    values = {
        "error": document,
        "dead_letter_id": letter and letter["id"],
        "detail": {"error": document["type"]},
    }
    return Outcome(FAIL, values, dead_letter=letter, told=told)


def is_retryable(error: BaseException, retry_on: tuple[type[BaseException], ...]) -> bool:
    """Return whether another attempt may help: never after Fatal, always after Retry, else by
    `retry_on`.
    """
    if isinstance(error, Fatal):
        return False
    if isinstance(error, TaskyardError) and 400 <= error.status < 500:
        return False  # What the core refuses as wrong stays wrong.
    return isinstance(error, (Retry, TimeoutError, SystemExit, *retry_on))


def retry_delay(claim: Row[Any], error: BaseException) -> float:
    """Return the seconds until the next attempt."""
    if isinstance(error, Retry) and error.after is not None:
        return max(0.0, float(error.after))
    options = claim.options
    backoff = Backoff(options["backoff_seconds"], options["backoff_max_seconds"], options["jitter"])
    return backoff.delay(claim.attempt)


def error_document(error: BaseException, *, retryable: bool) -> dict[str, Any]:
    """Return what clients see of an error; passwords in URLs are masked, the length is bounded."""
    message = keepable(mask_text(_text_of(error)))[:MAX_MESSAGE]
    return {"type": type(error).__name__, "message": message, "retryable": retryable}


def _text_of(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return str(error) or name
    except Exception:  # noqa: BLE001 - an author's __str__ can raise anything
        return name


def dead_letter(
    run: Row[Any], error: Mapping[str, Any], *, origin: str, message: object = None
) -> dict[str, Any]:
    """Return the row of the dead letter for a run that failed for good."""
    return {
        "id": new_id(),
        "run_id": run.id,
        "task": run.task,
        "queue": run.queue,
        "origin": origin,
        "error_type": str(error["type"])[:200],
        "error_message": error["message"],
        "attempts": run.attempt,
        "message": message,
        "tenant": run.tenant,
    }


async def record(
    databases: Databases, claim: Row[Any], outcome: Outcome, sessions: Sessions, worker: str
) -> Row[Any]:
    """Commit the outcome, once; StaleAttempt when the lease was lost: then nothing is written at
    all.
    """
    values = _values(claim, outcome, worker)
    try:
        failpoints.hit("outcome.before_commit")
        if not sessions:
            row = await _record_alone(databases, outcome, values)
        elif isinstance(next(iter(sessions.values())), AsyncSession):
            row = await _record_with_async(
                databases, outcome, values, cast("dict[str, AsyncSession]", sessions)
            )
        else:
            row = _record_with_sync(
                databases, outcome, values, cast("dict[str, Session]", sessions)
            )
    finally:
        await close_sessions(sessions)
    failpoints.hit("outcome.after_commit")
    if row is None:
        STALE_WRITES.labels(write=outcome.transition.name).inc()
        raise StaleAttempt(
            f"Attempt {claim.attempt} of run {claim.id} has lost its lease: no outcome."
        )
    return row


async def close_sessions(sessions: Sessions) -> None:
    """Roll back what was not committed and give the connections back."""
    for session in sessions.values():
        if isinstance(session, AsyncSession):
            await session.close()
        else:
            session.close()


async def _record_alone(
    databases: Databases, outcome: Outcome, values: dict[str, Any]
) -> Row[Any] | None:
    if outcome.is_alone:
        return await apply(databases, outcome.transition, values)
    async with databases.begin(APPLICATION_BIND) as connection:
        return await connection.run_sync(_write_outcome, outcome, values)


async def _record_with_async(
    databases: Databases,
    outcome: Outcome,
    values: dict[str, Any],
    sessions: dict[str, AsyncSession],
) -> Row[Any] | None:
    others = [session for bind, session in sessions.items() if bind != APPLICATION_BIND]
    session = sessions.get(APPLICATION_BIND) or databases.create_async_session(APPLICATION_BIND)
    async with session:
        await session.flush()
        connection = await session.connection(bind_arguments={"mapper": TaskRun})
        row = await connection.run_sync(_write_outcome, outcome, values)
        if row is not None:
            for other in others:
                await databases.commit(other)
            failpoints.hit("outcome.between_binds")
            await databases.commit(session)
    return row


def _record_with_sync(
    databases: Databases, outcome: Outcome, values: dict[str, Any], sessions: dict[str, Session]
) -> Row[Any] | None:
    others = [session for bind, session in sessions.items() if bind != APPLICATION_BIND]
    session = sessions.get(APPLICATION_BIND) or databases.create_session(APPLICATION_BIND)
    with session:
        session.flush()
        row = _write_outcome(
            session.connection(bind_arguments={"mapper": TaskRun}), outcome, values
        )
        if row is not None:
            for other in others:
                databases.commit_sync(other)
            failpoints.hit("outcome.between_binds")
            databases.commit_sync(session)
    return row


def _values(claim: Row[Any], outcome: Outcome, worker: str) -> dict[str, Any]:
    fixed = {
        "run_id": claim.id,
        "held_fence": claim.fence,
        "ahead": len(outcome.told.entries),
        "actor": "worker",
        "worker": worker,
        "detail": None,
    }
    return {**fixed, **outcome.values}


def _write_outcome(
    connection: Connection, outcome: Outcome, values: dict[str, Any]
) -> Row[Any] | None:
    if connection.dialect.name == "postgresql":
        connection.execute(_COMMIT_SOON)
    row = write(connection, outcome.transition, values)
    if row is None:
        return None
    if outcome.dead_letter:
        connection.execute(insert(DeadLetter), outcome.dead_letter)
    if entries := outcome.told.entries:
        # Looked for behind the lock of the row, where no lost try can come in between.
        told_by = {"run_id": row.id, "attempt": outcome.told.attempt}
        left = unwritten(connection, told_by, entries) if outcome.told.unsure else entries
        insert_entries(connection, told_by, row.last_seq - 1, left)
    if outcome.children:
        insert_children(connection, outcome.children)
    return row
