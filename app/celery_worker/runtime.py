"""Where attempts run: one event loop with its services per child process or pool thread."""

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Final

from billiard.exceptions import SoftTimeLimitExceeded

from app.celery_worker.alarms import limited
from app.celery_worker.begun import BEGUN
from app.celery_worker.interrupts import handle_with_care
from app.celery_worker.publisher import BlockingPublisher
from app.celery_worker.site import Execution, Site
from app.common.logging import get_logger
from app.common.tracing import TraceContext, bind_trace, new_trace, parse_traceparent
from app.tasks.execution import PATIENCE_SECONDS, Disposition, Executor, cancel_leftovers
from app.tasks.loops import run_on
from app.tasks.plain_calls import PlainCall
from app.tasks.services import Services
from app.tasks.transport import Wakeup

_log = get_logger(__name__)

# A message whose run the database cannot be asked about comes back after this long.
_LATER_SECONDS: Final = 5.0
_REQUEUE_PAUSE_SECONDS: Final = 1.0
_CALL_TRIES: Final = 15


def soft_limit_of(wakeups: Sequence[Wakeup]) -> float | None:
    """Return the seconds that deliveries of one limit may take together: the last one may begin
    somewhat after the first.
    """
    seconds = wakeups[0].timeout_seconds
    return seconds if seconds is None or len(wakeups) == 1 else seconds + PATIENCE_SECONDS


def _unlimited(_seconds: float | None) -> AbstractContextManager[None]:
    return nullcontext()


def execution_on(services: Services, worker: str) -> Execution:
    """Return the executor of the product; the pool's soft time limit is an outcome to it."""
    limits = (SoftTimeLimitExceeded,)
    return Executor(services, worker=worker, time_limit_errors=limits, begins=BEGUN.note)


class Runtime:
    """An event loop, the services on it and the executor; opened after the fork."""

    def __init__(self, site: Site, worker: str) -> None:
        self._runner = asyncio.Runner()
        self._services = self._runner.run(_open(site))
        self._busy = False
        self._known = site.task_names
        # A pool minds the limits of its processes itself.
        self._limited = limited if site.is_supervised else _unlimited
        self._execution = site.execution_factory(self._services, worker)

    def execute(self, wakeup: Wakeup, call: PlainCall | None = None) -> Disposition:
        """Run one delivery, or accept the call of a plain producer; LATER when neither the database
        nor the broker took it.
        """
        handle_with_care()
        self._busy = True
        try:
            return self._execute(wakeup) if call is None else self._accept(call)
        finally:
            self._busy = False

    def execute_many(self, wakeups: Sequence[Wakeup]) -> list[Disposition]:
        """Run deliveries of tasks that this worker knows, one after the other, as `execute` does.

        Raises SoftTimeLimitExceeded when the signal came outside a task: what is not recorded then
        is the main process's to judge, as when the process had died.
        """
        handle_with_care()
        self._busy = True
        run_ids = [wakeup.run_id for wakeup in wakeups]
        try:
            with self._limited(soft_limit_of(wakeups)):
                answers = self._execution.execute_many(self._runner, run_ids)
            self._postpone(wakeups, answers)
        except SoftTimeLimitExceeded:
            cancel_leftovers(self._runner)
            raise
        finally:
            self._busy = False
        return answers

    def _postpone(self, wakeups: Sequence[Wakeup], answers: list[Disposition]) -> None:
        """Send the messages that have to wait round again; DONE in the answers when they are."""
        late = [place for place, answer in enumerate(answers) if answer is Disposition.LATER]
        sent = self._send_later([wakeups[place] for place in late]) if late else frozenset()
        for place in late:
            if wakeups[place].run_id in sent:
                answers[place] = Disposition.DONE
        if len(sent) < len(late):
            # They go back to their queue and come again at once; not in a hot loop.
            time.sleep(_REQUEUE_PAUSE_SECONDS)

    def _execute(self, wakeup: Wakeup) -> Disposition:
        trace = parse_traceparent(wakeup.traceparent) or new_trace()
        with bind_trace(trace, task_id=wakeup.run_id):
            try:
                with self._limited(wakeup.timeout_seconds):
                    disposition = self._dispose(wakeup)
            except SoftTimeLimitExceeded:
                # The signal came outside the task, while its outcome was under way; what is not
                # recorded is left to the sweeper.
                cancel_leftovers(self._runner)
                _log.warning("attempt.interrupted")
                return Disposition.DONE
            answers = [disposition]
            self._postpone([wakeup], answers)
            return answers[0]

    def _accept(self, call: PlainCall) -> Disposition:
        # Only this message holds the arguments, so it cannot go round as a wake-up does; each
        # return to its queue counts as a delivery, so there are few.
        with bind_trace(TraceContext(call.trace_id, call.trace_id[:16]), task_id=call.run_id):
            for _ in range(_CALL_TRIES):
                disposition = self._execution.accept(self._runner, call)
                if disposition is not Disposition.LATER:
                    return disposition
                time.sleep(_REQUEUE_PAUSE_SECONDS)
        return Disposition.LATER

    def _dispose(self, wakeup: Wakeup) -> Disposition:
        if wakeup.function in self._known:
            return self._execution.execute(self._runner, wakeup.run_id)
        return self._execution.execute_unknown(self._runner, wakeup.run_id, wakeup.function)

    def cancel(self) -> None:
        """Cancel the attempt on the loop, if one runs; called from another thread at the stop."""
        if self._busy:
            self._runner.get_loop().call_soon_threadsafe(self._cancel_on_loop)

    def can_cancel(self, run_id: str) -> bool:
        """Return whether the run is at its own coroutine on this loop."""
        return self._execution.can_cancel(run_id)

    def cancel_run(self, run_id: str) -> None:
        """Cancel the coroutine of the run, if it is still at it; called from another thread."""
        loop = self._runner.get_loop()
        loop.call_soon_threadsafe(self._execution.cancel, run_id)

    def close(self) -> None:
        """Let go of the services and the loop."""
        try:
            self._runner.run(self._services.close())
        finally:
            self._runner.close()

    def _cancel_on_loop(self) -> None:
        # A loop that stands still keeps the call for its next run, which is another matter.
        if self._busy:
            for task in asyncio.all_tasks(self._runner.get_loop()):
                task.cancel()

    def _send_later(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        later = [replace(wakeup, delay_seconds=_LATER_SECONDS) for wakeup in wakeups]
        return run_on(self._runner, self._services.transport.send(later))


class Runtimes:
    """The runtimes of one worker process: one per thread that runs tasks, opened on first use."""

    def __init__(self, site: Site, worker: str) -> None:
        self.site = site
        self.worker = worker
        self._lock = threading.Lock()
        self._by_thread: dict[int, Runtime] = {}

    def current(self) -> Runtime:
        """Return the runtime of the calling thread."""
        thread = threading.get_ident()
        with self._lock:
            runtime = self._by_thread.get(thread)
        if runtime is None:
            runtime = Runtime(self.site, self.worker)
            with self._lock:
                self._by_thread[thread] = runtime
        return runtime

    def cancel(self) -> None:
        """Cancel what runs, on every thread."""
        with self._lock:
            runtimes = list(self._by_thread.values())
        for runtime in runtimes:
            runtime.cancel()

    def can_cancel(self, run_id: str) -> bool:
        """Return whether a thread is at the coroutine of the run."""
        return self._at(run_id) is not None

    def cancel_run(self, run_id: str) -> None:
        """Cancel the coroutine of the run, if a thread is at it."""
        runtime = self._at(run_id)
        if runtime is not None:
            runtime.cancel_run(run_id)

    def _at(self, run_id: str) -> Runtime | None:
        with self._lock:
            runtimes = list(self._by_thread.values())
        return next((runtime for runtime in runtimes if runtime.can_cancel(run_id)), None)

    def close(self) -> None:
        """Close every runtime; nothing runs on them any more."""
        with self._lock:
            runtimes, self._by_thread = list(self._by_thread.values()), {}
        for runtime in runtimes:
            try:
                runtime.close()
            except Exception:  # noqa: BLE001 - the other threads' have to be closed as well
                _log.exception("runtime.close_failed")


async def _open(site: Site) -> Services:
    return site.services_factory(BlockingPublisher(site.settings.celery))
