"""A worker's requests: what becomes of runs whose process dies before it can record an outcome."""

import os
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # not in the stubs
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.worker.request import Request

from app.celery_worker.site import Site, site_of
from app.common.logging import get_logger
from app.config.settings import DatabaseSettings
from app.db import Databases
from app.tasks.losses import WorkerLost, give_back_all, record_loss

_log = get_logger(__name__)

# The main loop stands still meanwhile, and the broker waits for its heartbeats.
_CONNECT_SECONDS: Final = 3.0
_STATEMENT_SECONDS: Final = 3.0
# Many processes may die at once, of one cause: a database that is away is asked once for all.
_LEFT_ALONE_SECONDS: Final = 10.0

_PROCESS_ENDED: Final = (WorkerLostError, Terminated, SystemExit, KeyboardInterrupt)


class PoolWork:
    """What a process of the pool is at: the run of one message, or those of a group.

    `stopped_by_us` says that the worker killed the process because it has to end itself.
    """

    stopped_by_us = False
    database_away_until: ClassVar[float] = 0.0
    id: Any
    name: Any
    app: Any
    hostname: Any
    worker_pid: Any

    @property
    def run_ids(self) -> Sequence[str]:
        """The runs whose leases the process may hold."""
        return (self.id,)

    @property
    def begun(self) -> str | None:
        """The run that the process has begun last; the others cost no attempt when it dies."""
        return str(self.id)

    @property
    def is_elsewhere(self) -> bool:
        """Whether a process of its own has begun it; the threads of a pool cannot be lost alone."""
        return self.worker_pid is not None and self.worker_pid != os.getpid()

    def held(self, databases: Databases, owner: str) -> Sequence[str]:  # noqa: ARG002 - for others
        """Return the runs that the process may hold, asked when it is dead."""
        return self.run_ids

    def try_to_record(self, error: Exception) -> None:
        """Record the loss, if the database is there; the lease runs out otherwise."""
        if time.monotonic() < PoolWork.database_away_until:
            _log.warning("loss.not_recorded", task_id=self.id, error="the database is away")
            return
        try:
            self.record(error)
        except Exception as failure:  # noqa: BLE001 - the sweeper sees the lease run out
            PoolWork.database_away_until = time.monotonic() + _LEFT_ALONE_SECONDS
            _log.warning("loss.not_recorded", task_id=self.id, error=repr(failure))

    def record(self, error: Exception) -> None:
        """Count the attempt that had begun as lost, unless we stopped it; give the rest back."""
        # The same thread forks the pool's processes, so none is born in the middle of this.
        owner = f"{self.hostname}:{self.worker_pid}"
        databases = _databases_of(site_of(self.app))
        begun = None if self.stopped_by_us else self.begun
        try:
            if begun is not None and record_loss(databases, begun, owner, error):
                _log.warning("attempt.lost", task_id=begun, task=self.name, error=str(error))
            rest = [run_id for run_id in self.held(databases, owner) if run_id != begun]
            if rest and (given := give_back_all(databases, rest, owner)):
                told = sorted(given)
                _log.warning("attempt.given_back", task_id=told, task=self.name, error=str(error))
        finally:
            databases.dispose_sync()


class RunRequest(PoolWork, Request):
    """Celery's request that records the loss of its process before the message goes back.

    In this order, because a message that comes back to a run with a valid lease is a duplicate.
    """

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> None:
        """Record what the process cannot; called in the main process for every end but success."""
        error = loss_of(exc_info.exception)
        if error is not None and self.is_elsewhere:
            self.try_to_record(error)
        super().on_failure(exc_info, *args, **kwargs)


def loss_of(error: BaseException) -> Exception | None:
    """Return what to record of the pool's error; None when the process has ended the attempt."""
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    if isinstance(error, TimeLimitExceeded):
        return TimeoutError(f"The attempt ran longer than its hard limit: {error.args[0]:g} s.")
    if isinstance(error, _PROCESS_ENDED):
        told = str(error).partition(" Job:")[0] or type(error).__name__
        return WorkerLost(f"The process of the attempt died: {told}")
    return None


def _databases_of(site: Site) -> Databases:
    databases = site.settings.databases.items()
    return Databases({bind: _impatient(options) for bind, options in databases})


def _impatient(options: DatabaseSettings) -> DatabaseSettings:
    return options.model_copy(
        update={
            "pool_size": 1,
            "connect_timeout_seconds": min(_CONNECT_SECONDS, options.connect_timeout_seconds),
            "statement_timeout_seconds": min(_STATEMENT_SECONDS, options.statement_timeout_seconds),
        }
    )
