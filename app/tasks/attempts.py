"""One attempt: call the function of a claimed run and say how it ended."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from sqlalchemy.engine import Row

from app.common.logging import get_logger
from app.tasks.context import TaskContext
from app.tasks.loops import bounded, cancel_leftovers, run_on
from app.tasks.outcomes import Outcome, Sessions, Told, close_sessions, failed, succeeded
from app.tasks.registry import TaskSpec
from app.tasks.results import EncodedResult, StoredResult, result_key
from app.tasks.services import Services
from app.tasks.signature import decode_result, encode_result

log = get_logger(__name__)


class Attempts:
    """Calls the functions of claimed runs, one at a time, on the calling thread.

    `time_limit_errors` are what the pool raises in the middle of anything when a soft time limit
    is over.
    """

    def __init__(
        self, services: Services, time_limit_errors: tuple[type[BaseException], ...]
    ) -> None:
        self._services = services
        self._time_limit_errors = time_limit_errors
        self._coroutine: tuple[str, asyncio.Task[Any] | None] | None = None

    def can_cancel(self, run_id: str) -> bool:
        """Return whether the run is at its own coroutine; asked from any thread."""
        coroutine = self._coroutine
        return coroutine is not None and coroutine[0] == run_id

    def cancel(self, run_id: str) -> None:
        """Cancel the coroutine of the run, on its own loop; nothing when it has ended."""
        coroutine = self._coroutine
        if coroutine is not None and coroutine[0] == run_id and coroutine[1] is not None:
            coroutine[1].cancel()

    def call(
        self, runner: asyncio.Runner, claim: Row[Any], spec: TaskSpec
    ) -> tuple[Outcome, Sessions]:
        """Return the outcome, and the sessions to commit with it; never raises for what a task
        does.
        """
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
            result = self._encode(runner, spec, claim, value)
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

    def _encode(
        self, runner: asyncio.Runner, spec: TaskSpec, claim: Row[Any], value: object
    ) -> EncodedResult:
        if isinstance(value, StoredResult):
            return EncodedResult(ref=value.key)
        document = encode_result(spec.signature, value)
        if len(document) <= self._services.settings.limits.max_inline_result_bytes:
            return EncodedResult(value=decode_result(document))
        key = result_key(claim.id, claim.fence)
        run_on(runner, self._services.storage.put(key, document))
        return EncodedResult(ref=key)


def _told(context: TaskContext) -> Told:
    return Told(context.journal.take(), context.attempt, unsure=context.journal.unsure)
