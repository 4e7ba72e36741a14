"""The profile `fast` of a worker: processes that each take messages and run tasks themselves.

There is no main process between the broker and a run, so nothing is handed from process to process;
and none that sees a run hang, so a supervisor does what can only be done from outside: it ends a
process whose run is past its hard limit, records what a process cannot that died, and starts
another in its place.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from celery.platforms import set_pdeathsig  # type: ignore[attr-defined]  # not in the stubs

from app.celery_worker.alarms import handle_alarms
from app.celery_worker.begun import BEGUN
from app.celery_worker.preloading import preload
from app.celery_worker.requests import PoolWork
from app.common.logging import get_logger
from app.config.settings import Settings
from app.db import Databases
from app.tasks.losses import WorkerLost, held_by

_log = get_logger(__name__)

_LOOK_SECONDS: Final = 0.5
# One that dies at its start is not started anew in a hot loop.
_SOON_SECONDS: Final = 2.0
_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_HANDLED: Final = (*_ENDING, signal.SIGCHLD)


@dataclass(slots=True)
class _Child:
    number: int
    started_at: float
    is_recorded: bool = False


class _Departed(PoolWork):
    """What a process held that is dead, or will be."""

    def __init__(self, app: Celery, hostname: str, pid: int) -> None:
        self.app = app
        self.id = self.name = self.hostname = hostname
        self.worker_pid = pid

    @property
    def begun(self) -> str | None:
        return BEGUN.of(self.worker_pid)

    def held(self, databases: Databases, owner: str) -> Sequence[str]:
        return held_by(databases, owner)


class Supervisor:
    """Runs so many processes until a signal ends them; one that dies is replaced."""

    def __init__(
        self, app: Celery, settings: Settings, *, processes: int, queues: Sequence[str] = ()
    ) -> None:
        self._app = app
        self._settings = settings
        self._queues = queues
        self._numbers = range(processes)
        self._children: dict[int, _Child] = {}
        self._due: dict[int, float] = {}
        self._ends_at: float | None = None
        self._exit_code = 0

    def run(self) -> int:
        """Return the exit code, when all processes have ended."""
        preload(self._settings)
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        self._due = dict.fromkeys(self._numbers, 0.0)
        while self._children or self._due:
            self._start_due()
            came = signal.sigtimedwait(_HANDLED, _LOOK_SECONDS)
            if came is not None and came.si_signo in _ENDING:
                self._end(at_once=came.si_signo == signal.SIGQUIT)
            self._reap()
            self._watch()
        return self._exit_code

    def _start_due(self) -> None:
        now = time.monotonic()
        for number, moment in list(self._due.items()):
            if moment <= now:
                del self._due[number]
                self._children[self._fork(number)] = _Child(number, now)

    def _fork(self, number: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            code = self._work(number)
        except BaseException:  # noqa: BLE001 - it must not go on as a second supervisor
            _log.exception("worker.process_failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _work(self, number: int) -> int:
        """Be a worker; return its exit code."""
        # A terminal's signals are for the supervisor.
        os.setpgid(0, 0)
        set_pdeathsig("SIGKILL")
        BEGUN.take_slot(number)
        handle_alarms()
        worker = self._app.Worker(
            hostname=self._name(number, os.getppid()),
            loglevel=self._settings.logging.level,
            pool="solo",
            concurrency=1,
            queues=",".join(self._queues) or None,
            quiet=True,
        )
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        worker.start()
        BEGUN.leave()
        return int(worker.exitcode or 0)

    def _name(self, number: int, supervisor: int) -> str:
        return f"worker-{supervisor}-{number}@{socket.gethostname()}"

    def _reap(self) -> None:
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._replace(pid, self._children.pop(pid), status)

    def _replace(self, pid: int, child: _Child, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        if BEGUN.has_left(pid):
            # It was told to end, or cannot work here: so would the next one.
            self._exit_code = self._exit_code or code
            self._end()
            return
        told = f"signal {-code}" if code < 0 else f"exit code {code}"
        _log.warning("worker.process_died", pid=pid, told=told)
        if not child.is_recorded:
            self._record(pid, child, WorkerLost(f"The process of the attempt died: {told}"))
        if self._ends_at is None:
            has_lived = time.monotonic() - child.started_at > _SOON_SECONDS
            self._due[child.number] = time.monotonic() + (0.0 if has_lived else _SOON_SECONDS)

    def _watch(self) -> None:
        """End what is past its hard limit, and what is left when the grace period is over."""
        now = time.monotonic()
        for pid, child in self._children.items():
            if BEGUN.is_over(pid, now):
                self._kill(pid, child, TimeoutError("The attempt ran longer than its hard limit."))
            elif self._ends_at is not None and now > self._ends_at:
                self._kill(pid, child, None)

    def _kill(self, pid: int, child: _Child, error: Exception | None) -> None:
        # In this order: the broker delivers its messages again as soon as it is dead.
        if not child.is_recorded:
            self._record(pid, child, error)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _record(self, pid: int, child: _Child, error: Exception | None) -> None:
        """Charge the run that had begun; without an error nothing is charged."""
        child.is_recorded = True
        departed: Any = _Departed(self._app, self._name(child.number, os.getpid()), pid)
        departed.stopped_by_us = error is None
        departed.try_to_record(error or WorkerLost("The worker ends."))

    def _end(self, *, at_once: bool = False) -> None:
        self._due.clear()
        grace = 0.0 if at_once else self._settings.celery.shutdown_grace_seconds
        ends_at = time.monotonic() + grace
        if self._ends_at is None:
            for pid in self._children:
                os.kill(pid, signal.SIGTERM)
        self._ends_at = min(self._ends_at or ends_at, ends_at)
