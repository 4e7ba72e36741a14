"""Beating the leases of a worker's runs from its main process, for children that are busy."""

import os
import threading
from collections.abc import Callable
from typing import Any, Final

from celery.worker import state

from app.celery_worker.hearing import Hearing
from app.celery_worker.presence import Presence
from app.celery_worker.runtime import Runtimes
from app.celery_worker.site import Site
from app.celery_worker.stopping import Stopper
from app.common.logging import get_logger
from app.db import Databases
from app.tasks.heartbeat import beat_leases
from app.tasks.losses import end_cancelled

_log = get_logger(__name__)

# A fork waits at most this long for a beat to end: the main loop must not hang on a database.
_FORK_PATIENCE_SECONDS: Final = 5.0
_STOP_PATIENCE_SECONDS: Final = 2.0


# A request and one of its runs, not the run alone: its next attempt may be in the same process.
_Hold = tuple[Any, str]


class ForkGate:
    """Keeps the main thread from forking while another thread is in the middle of a statement.

    A child that is born then could inherit a lock that nobody in it will ever release.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held_by_fork = False

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        self._held_by_fork = self._lock.acquire(timeout=_FORK_PATIENCE_SECONDS)

    def after_fork_in_parent(self) -> None:
        if self._held_by_fork:
            self._held_by_fork = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._held_by_fork = False


GATE: Final = ForkGate()
os.register_at_fork(
    before=GATE.before_fork,
    after_in_parent=GATE.after_fork_in_parent,
    after_in_child=GATE.after_fork_in_child,
)


class LeaseKeeper:
    """A thread that renews the leases of the worker's active runs and stops the lost ones."""

    def __init__(self, site: Site, worker: Any, runtimes: Runtimes | None = None) -> None:
        self._site = site
        self._worker = worker
        self._stopper = Stopper(worker, runtimes, is_supervised=site.is_supervised)
        self._hearing = Hearing(site, worker)
        self._presence = Presence(worker)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._owned: frozenset[_Hold] = frozenset()
        self._missed: frozenset[_Hold] = frozenset()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="taskyard-leases", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_STOP_PATIENCE_SECONDS)

    def _run(self) -> None:
        databases = Databases(self._site.settings.databases)
        interval = self._site.settings.celery.heartbeat_seconds
        try:
            self._try("presence.not_told", self._tell, databases)
            while not self._ended.wait(interval):
                self._try("leases.not_renewed", self.beat, databases)
                self._try("presence.not_told", self._tell, databases)
            self._try("presence.not_told", self._presence.end, databases)
        finally:
            databases.dispose_sync()

    def _tell(self, databases: Databases) -> None:
        with GATE:
            paused = self._presence.tell(databases)
            self._hearing.check(databases)
        # A consumer without a connection has none; it reads what is paused when it connects.
        watch = getattr(getattr(self._worker, "consumer", None), "pauses", None)
        if watch is not None:
            watch.hear(paused)

    def _try(self, failure: str, step: Callable[[Databases], None], databases: Databases) -> None:
        try:
            step(databases)
        except Exception as error:  # noqa: BLE001 - a database that is away comes back
            _log.warning(failure, error=repr(error))

    def beat(self, databases: Databases) -> None:
        """Renew the leases once; stop the runs that have been missing in two answers, and those
        that were cancelled and did not end by themselves.
        """
        attempts = {
            (request, run_id): (run_id, request.worker_pid)
            for request in self._active()
            for run_id in request.run_ids
        }
        celery = self._site.settings.celery
        with GATE:
            answer = beat_leases(
                databases,
                self._worker.hostname,
                frozenset(attempts.values()),
                lease_seconds=celery.lease_seconds,
                cancel_grace_seconds=celery.cancel_grace_seconds,
            )
        owned = frozenset(hold for hold in attempts if attempts[hold] in answer.owned)
        # One miss is no loss: the child may have recorded the outcome and be on its way back.
        missing = (self._owned | self._missed) & attempts.keys() - owned
        lost = missing & self._missed
        self._missed = missing - lost
        self._owned = owned
        for request, run_id in lost:
            # Of a group only the run that has begun is at work; the others are not begun any more.
            if request.begun == run_id:
                # It is somebody else's now; what it writes is fenced off anyway.
                _log.warning("leases.lost", **_facts_of(request, run_id))
                self._stopper.stop(request, run_id)
        for request, run_id in owned:
            if attempts[request, run_id] in answer.cancelled and request.begun == run_id:
                self._cancel(databases, request, run_id)

    def _cancel(self, databases: Databases, request: Any, run_id: str) -> None:
        """End a cancelled run, then its attempt; one that cannot be stopped ends by itself."""
        if not self._stopper.can_stop(request, run_id):
            return
        owner = f"{self._worker.hostname}:{request.worker_pid}"
        with GATE:
            ended = end_cancelled(databases, run_id, owner)
        if ended:
            _log.warning("attempt.cancelled", **_facts_of(request, run_id))
            self._stopper.stop(request, run_id)

    def _active(self) -> list[Any]:
        """Return the requests of ours that a child or thread has begun."""
        while True:
            try:
                requests = list(state.active_requests)
            except RuntimeError:
                # The main thread changed the set in the middle of the copy.
                continue
            names = self._site.task_names
            return [request for request in requests if request.name in names and request.worker_pid]


def _facts_of(request: Any, run_id: str) -> dict[str, Any]:
    return {"task_id": run_id, "task": request.name, "pid": request.worker_pid}
