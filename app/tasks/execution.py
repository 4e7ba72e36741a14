"""One delivery of a run: claim it, call the function, record the outcome."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from enum import Enum
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Row
from sqlalchemy.exc import DBAPIError

from app.common import failpoints
from app.common.errors import ServiceUnavailable
from app.common.ids import parse_id
from app.common.logging import get_logger
from app.common.metrics import (
    DUPLICATE_DELIVERIES,
    TASK_RETRIES,
    TASK_RUN_SECONDS,
    TASK_WAIT_SECONDS,
    TASKS,
)
from app.common.tracing import TraceContext, bind_trace
from app.config.settings import APPLICATION_BIND
from app.db.types import db_now
from app.tasks.context import TaskContext
from app.tasks.errors import StaleAttempt
from app.tasks.limiting import is_limited
from app.tasks.loops import bounded, cancel_leftovers, run_on
from app.tasks.models import TaskRun
from app.tasks.outcomes import Outcome, Sessions, Told, close_sessions, failed, succeeded
from app.tasks.plain_calls import PlainCall
from app.tasks.postponing import function_of, postponed
from app.tasks.recording import Recorder
from app.tasks.registry import TaskSpec
from app.tasks.requests import wakeup_of
from app.tasks.results import EncodedResult, StoredResult, result_key
from app.tasks.services import Services
from app.tasks.signature import decode_result, encode_result
from app.tasks.statuses import WAITING, Status
from app.tasks.transitions import CLAIM, EXPIRE, HOLD_FOR_SWEEPER, RETRY, apply

_RUN = TaskRun.__table__.c
_AWAY = (DBAPIError, ServiceUnavailable, OSError, TimeoutError)
log = get_logger(__name__)
__all__ = ["Disposition", "Executor", "cancel_leftovers"]


class Disposition(Enum):
    """What becomes of the message."""

    DONE = "done"  # Acknowledge it.
    UNKNOWN = "unknown"  # No such run: reject it into the dead-letter queue.
    LATER = "later"  # The database cannot be asked now: send the message round again after a while.


class Executor:
    """Runs deliveries on the calling thread; one per worker process or thread.

    `worker` names the worker process that beats the leases. `time_limit_errors` are
    what the pool raises in the middle of anything when a soft time limit is over.
    `recorder` takes the place of the one that commits outcomes, in the test kit.
    """

    def __init__(
        self,
        services: Services,
        *,
        worker: str,
        time_limit_errors: tuple[type[BaseException], ...] = (),
        recorder: Recorder | None = None,
    ) -> None:
        self._services = services
        self._worker = worker
        self._time_limit_errors = time_limit_errors
        # A time limit that falls into the commit passes like a database that restarts.
        self._recorder = recorder or Recorder(services.databases, worker, time_limit_errors)
        self._coroutine: tuple[str, asyncio.Task[Any] | None] | None = None

    def execute(self, runner: asyncio.Runner, run_id: str) -> Disposition:
        """Run one delivery and say what becomes of its message; never raises for what a
        task does.
        """
        if not _is_id(run_id):
            return Disposition.UNKNOWN
        try:
            claim = run_on(runner, self._claim(run_id))
        except _AWAY as error:
            log.warning("the run cannot be claimed now", task_id=run_id, error=type(error).__name__)
            return Disposition.LATER
        if isinstance(claim, Disposition):
            return claim
        trace = TraceContext(claim.trace_id, claim.id.replace("-", "")[-16:])
        with bind_trace(
            trace, task_id=claim.id, task=claim.task, attempt=claim.attempt, queue=claim.queue
        ):
            self._attempt(runner, claim)
        return Disposition.DONE

    def accept(self, runner: asyncio.Runner, call: PlainCall) -> Disposition:
        """Take the call of a plain Celery producer: DONE when its run is durable."""
        try:
            run_on(runner, self._services.plain_calls.accept(call))
        except _AWAY as error:
            log.warning("the call cannot be taken now", error=type(error).__name__)
            return Disposition.LATER
        return Disposition.DONE

    def execute_unknown(self, runner: asyncio.Runner, run_id: str, function: str) -> Disposition:
        """Take a delivery that names a task which this process has no code for.

        UNKNOWN unless it is the run's own: then the run waits for a worker that knows the task.
        """
        if not _is_id(run_id):
            return Disposition.UNKNOWN
        try:
            named = run_on(runner, function_of(self._services.databases, run_id))
        except _AWAY as error:
            log.warning("the run cannot be read now", task_id=run_id, error=type(error).__name__)
            return Disposition.LATER
        return self.execute(runner, run_id) if named == function else Disposition.UNKNOWN

    def can_cancel(self, run_id: str) -> bool:
        """Return whether the run is at its own coroutine; asked from any thread."""
        coroutine = self._coroutine
        return coroutine is not None and coroutine[0] == run_id

    def cancel(self, run_id: str) -> None:
        """Cancel the coroutine of the run, on its own loop; nothing when it has ended."""
        coroutine = self._coroutine
        if coroutine is not None and coroutine[0] == run_id and coroutine[1] is not None:
            coroutine[1].cancel()

    @property
    def _owner(self) -> str:
        """Who holds the lease: the worker that beats it and the process that runs the attempt."""
        return f"{self._worker}:{os.getpid()}"

    async def _claim(self, run_id: str) -> Row[Any] | Disposition:
        lease = self._services.settings.celery.lease_seconds
        values = {
            "run_id": run_id,
            "worker": self._owner,
            "actor": "worker",
            "lease_seconds": lease,
        }
        claim = await apply(self._services.databases, CLAIM, values)
        return claim if claim is not None else await self._not_claimed(run_id, values)

    def _attempt(self, runner: asyncio.Runner, claim: Row[Any]) -> None:
        spec = self._services.registry.find(claim.function)
        if spec is None:
            self._postpone(runner, claim)
            return
        failpoints.hit("execution.after_claim")
        due = claim.scheduled_for or claim.created_at
        TASK_WAIT_SECONDS.labels(claim.function, claim.queue).observe(
            max(0.0, (claim.started_at - due).total_seconds())
        )
        log.info("attempt started")
        with TASK_RUN_SECONDS.labels(claim.function, claim.queue).time():
            outcome, sessions = self._call(runner, claim, spec)
        failpoints.hit("execution.before_record")
        self._record(runner, claim, outcome, sessions)

    def _postpone(self, runner: asyncio.Runner, claim: Row[Any]) -> None:
        log.warning("no code for the task", task=claim.function)
        patience = self._services.settings.celery.unknown_task_patience_seconds
        try:
            outcome = run_on(runner, postponed(self._services.databases, claim, patience))
        except _AWAY as error:
            log.warning("the lease is left to run out", error=type(error).__name__)
            return
        self._record(runner, claim, outcome, {})

    def _record(
        self, runner: asyncio.Runner, claim: Row[Any], outcome: Outcome, sessions: Sessions
    ) -> None:
        try:
            row, outcome = self._recorder.record(runner, claim, outcome, sessions)
        except StaleAttempt as error:
            log.warning("attempt lost its lease", detail=error.detail)
            return
        TASKS.labels(claim.function, claim.queue, row.status).inc()
        log.info("attempt ended", status=row.status)
        run_on(runner, self._afterwards(row, outcome))

    def _call(
        self, runner: asyncio.Runner, claim: Row[Any], spec: TaskSpec
    ) -> tuple[Outcome, Sessions]:
        context = TaskContext(
            self._services,
            claim,
            run=partial(run_on, runner),
            is_async=spec.signature.is_async,
            plugin_settings=self._services.plugin_settings.get(spec.plugin),
        )
        try:
            value = self._call_function(runner, spec, context, claim)
            if context.journal.is_open:
                run_on(runner, context.journal.settle())
            result = run_on(runner, self._encode(spec, claim, value))
        except Exception as error:  # noqa: BLE001 - whatever a task raises is an outcome
            return self._failure(runner, claim, spec, context, error), context.sessions
        except asyncio.CancelledError as error:
            return self._failure(runner, claim, spec, context, error), context.sessions
        except SystemExit as error:
            if type(error) is not SystemExit:
                raise  # The pool's own ways to stop a worker derive from it.
            return self._failure(runner, claim, spec, context, error), context.sessions
        return succeeded(result, _told(context), context.children), context.sessions

    def _call_function(
        self, runner: asyncio.Runner, spec: TaskSpec, context: TaskContext, claim: Row[Any]
    ) -> object:
        arguments: dict[str, Any] = spec.read_params(claim.params)
        function: Callable[..., Any] = spec.function
        positional = (context,) if spec.signature.takes_context else ()
        if not spec.signature.is_async:
            return function(*positional, **arguments)
        coroutine = bounded(function(*positional, **arguments), claim.options["timeout_seconds"])
        return run_on(runner, self._cancellable(claim.id, coroutine))

    async def _cancellable(self, run_id: str, coroutine: Coroutine[Any, Any, object]) -> object:
        self._coroutine = (run_id, asyncio.current_task())
        try:
            return await coroutine
        finally:
            self._coroutine = None

    def _failure(
        self,
        runner: asyncio.Runner,
        claim: Row[Any],
        spec: TaskSpec,
        context: TaskContext,
        error: BaseException,
    ) -> Outcome:
        cancel_leftovers(runner)
        if isinstance(error, self._time_limit_errors):
            error = TimeoutError(
                f"The attempt ran longer than {claim.options['timeout_seconds']:g} seconds."
            )
        log.warning("attempt failed", error=type(error).__name__, exc_info=error)
        run_on(runner, close_sessions(context.sessions))
        context.sessions.clear()
        return failed(claim, error, spec.options.retry_on, _told(context))

    async def _encode(self, spec: TaskSpec, claim: Row[Any], value: object) -> EncodedResult:
        if isinstance(value, StoredResult):
            return EncodedResult(ref=value.key)
        document = encode_result(spec.signature, value)
        if len(document) <= self._services.settings.limits.max_inline_result_bytes:
            return EncodedResult(value=decode_result(document))
        key = result_key(claim.id, claim.fence)
        await self._services.storage.put(key, document)
        return EncodedResult(ref=key)

    async def _afterwards(self, row: Row[Any], outcome: Outcome) -> None:
        """Send the messages that the commit stands for; the sweeper sends what is lost here."""
        wakeups = [
            child.wakeup(child.delay_seconds or 0.0)
            for child in outcome.children
            if not child.has_ended
        ]
        if outcome.retry_after_seconds is not None and row.status == Status.RETRYING:
            if outcome.transition is RETRY:
                TASK_RETRIES.labels(row.function, row.queue).inc()
            wakeups.append(wakeup_of(row, outcome.retry_after_seconds))
        try:
            await self._services.outbox.flush(wakeups)
            await self._services.limiter.pass_on(row)
            if outcome.dead_letter is not None:
                letter = outcome.dead_letter
                facts = {
                    "x-error-type": letter["error_type"],
                    "x-error-message": letter["error_message"][:500],
                }
                await self._services.transport.send_dead_letter(wakeup_of(row, 0.0), facts)
        except _AWAY as error:
            log.warning("messages are left to the sweeper", error=type(error).__name__)

    async def _not_claimed(self, run_id: str, values: dict[str, Any]) -> Row[Any] | Disposition:
        """Return what becomes of a message whose run could not be claimed at once: too early, too
        late, doubled or unknown. A run under a limit is claimed here, when its limit lets it.
        """
        databases = self._services.databases
        statement = select(*_RUN, db_now().label("now")).where(_RUN.id == run_id)
        async with databases.autocommit(APPLICATION_BIND) as connection:
            row: Any = (await connection.execute(statement)).one_or_none()
        if row is None:
            return Disposition.UNKNOWN
        if row.status in WAITING and row.expires_at is not None and row.expires_at <= row.now:
            await apply(databases, EXPIRE, {"run_id": run_id, "actor": "worker"})
        elif (
            row.status in WAITING and row.scheduled_for is not None and row.scheduled_for > row.now
        ):
            await self._delay_again(row, (row.scheduled_for - row.now).total_seconds())
        elif is_limited(row):
            return await self._services.limiter.claim(row, values) or Disposition.DONE
        else:
            DUPLICATE_DELIVERIES.labels(row.queue).inc()
        return Disposition.DONE

    async def _delay_again(self, row: Row[Any], seconds: float) -> None:
        """Send an early message round again for the rest of its delay."""
        if await self._services.transport.send([wakeup_of(row, seconds)]):
            return
        async with self._services.databases.autocommit(APPLICATION_BIND) as connection:
            await connection.execute(HOLD_FOR_SWEEPER, {"run_id": row.id})


def _told(context: TaskContext) -> Told:
    return Told(context.journal.take(), context.attempt, unsure=context.journal.unsure)


def _is_id(text: str) -> bool:
    try:
        return bool(parse_id(text))
    except ValueError:
        return False
