"""Stopping one attempt from outside: its process is ended, or its coroutine is cancelled."""

import contextlib
import os
import signal
from typing import Any, Final

from celery.worker import state

from app.celery_worker.runtime import Runtimes

# A stopped attempt has this long to roll back.
_KILL_AFTER_SECONDS: Final = 5.0


class Stopper:
    """Stops attempts of one worker, from any thread.

    A process can always be ended; one that runs its tasks itself ends with them, when a supervisor
    starts another. Of what runs in threads, only `async def` tasks can be stopped: nothing ends a
    thread in the middle of a function.
    """

    def __init__(
        self, worker: Any, runtimes: Runtimes | None, *, is_supervised: bool = False
    ) -> None:
        self._is_supervised = is_supervised
        self._worker = worker
        self._runtimes = runtimes

    def can_stop(self, request: Any, run_id: str) -> bool:
        """Return whether `stop` would do anything."""
        if request.worker_pid != os.getpid():
            return self._has_processes
        return self._is_supervised or self._can_cancel(run_id)

    def stop(self, request: Any, run_id: str) -> None:
        """Have the attempt end soon. Its message is acknowledged; what it writes is fenced off."""
        if request.worker_pid == os.getpid():
            if self._runtimes is not None and self._can_cancel(run_id):
                self._runtimes.cancel_run(run_id)
            elif self._is_supervised:
                os.kill(os.getpid(), signal.SIGKILL)
        elif self._has_processes:
            self._worker.hub.call_soon(self._terminate, request, run_id)

    def _can_cancel(self, run_id: str) -> bool:
        return self._runtimes is not None and self._runtimes.can_cancel(run_id)

    @property
    def _has_processes(self) -> bool:
        hub = getattr(self._worker, "hub", None)
        return hub is not None and hasattr(self._worker.pool, "terminate_job")

    def _terminate(self, request: Any, run_id: str) -> None:
        # On the main loop, where a child gets its next message only after this one's result
        # was read: as long as the request is active, its process runs nothing else. Of a group
        # it may have begun the next run since.
        if request in state.active_requests and request.begun == run_id:
            job = request._apply_result and request._apply_result()  # noqa: SLF001 - Celery's job
            request.terminate(self._worker.pool)
            self._worker.hub.call_later(
                _KILL_AFTER_SECONDS, kill_if_running, job, request.worker_pid
            )


def kill_if_running(job: Any, pid: int) -> None:
    """Kill the process of a job that the first signal did not end: it hangs outside Python."""
    if job is not None and not job.ready():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
