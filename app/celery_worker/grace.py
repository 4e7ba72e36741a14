"""The grace period of a worker that ends: what still runs after it is stopped and given back."""

import contextlib
import os
import signal
import threading
from typing import Any, Final

from celery.worker import state

from app.celery_worker.requests import PoolWork
from app.common.logging import get_logger

_log = get_logger(__name__)

# A message that reached its process at the last moment is seen as begun a little later.
_LOOK_AGAIN_SECONDS: Final = 0.5
_JOIN_SECONDS: Final = 2.0


class Grace:
    """A thread that waits beside the pool's last runs and kills what outlives the period.

    The main thread sees each killed process end, gives its runs back (`PoolWork`) and goes on
    with the warm shutdown.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskyard-grace", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the wait; nothing runs any more."""
        self._ended.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        if self._ended.wait(self._seconds):
            return
        while True:
            self._stop_runs()
            if self._ended.wait(_LOOK_AGAIN_SECONDS):
                return

    def _stop_runs(self) -> None:
        for request in _running():
            _log.warning("attempt.grace_over", task_id=request.id, task=request.name)
            # Before the signal: the main thread may see the end at once.
            request.stopped_by_us = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(request.worker_pid, signal.SIGKILL)


def _running() -> list[Any]:
    """Return the requests in processes of their own; the threads of a pool cannot be killed."""
    while True:
        try:
            requests = list(state.active_requests)
        except RuntimeError:
            # The main thread changed the set in the middle of the copy.
            continue
        return [
            request
            for request in requests
            if isinstance(request, PoolWork) and request.is_elsewhere and not request.stopped_by_us
        ]
