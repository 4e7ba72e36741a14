"""A worker's requests: what becomes of a run whose process dies before it can record an outcome."""

import os
import time
from typing import Any, ClassVar, Final

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # not in the stubs
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.worker.request import Request

from app.celery_worker.site import Site, site_of
from app.common.logging import get_logger
from app.config.settings import DatabaseSettings
from app.db import Databases
from app.tasks.losses import WorkerLost, give_back, record_loss

_log = get_logger(__name__)

# The main loop stands still meanwhile, and the broker waits for its heartbeats.
_CONNECT_SECONDS: Final = 3.0
_STATEMENT_SECONDS: Final = 3.0
# Many processes may die at once, of one cause: a database that is away is asked once for all.
_LEFT_ALONE_SECONDS: Final = 10.0

_PROCESS_ENDED: Final = (WorkerLostError, Terminated, SystemExit, KeyboardInterrupt)


class RunRequest(Request):
    """Celery's request that records the loss of its process before the message goes back.

    In this order, because a message that comes back to a run with a valid lease is a duplicate.
    `stopped_by_us` says that the worker killed the process because it has to end itself.
    """

    stopped_by_us = False
    database_away_until: ClassVar[float] = 0.0

    @property
    def is_elsewhere(self) -> bool:
        """Whether a process of its own has begun it; the threads of a pool cannot be lost alone."""
        pid: Any = self.worker_pid
        return pid is not None and pid != os.getpid()

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> None:
        """Record what the process cannot; called in the main process for every end but success."""
        error = loss_of(exc_info.exception)
        if error is not None and self.is_elsewhere:
            self.try_to_record(error)
        super().on_failure(exc_info, *args, **kwargs)

    def try_to_record(self, error: Exception) -> None:
        """Record the loss, if the database is there; the lease runs out otherwise."""
        if time.monotonic() < RunRequest.database_away_until:
            _log.warning("loss.not_recorded", task_id=self.id, error="the database is away")
            return
        try:
            self.record(error)
        except Exception as failure:  # noqa: BLE001 - the sweeper sees the lease run out
            RunRequest.database_away_until = time.monotonic() + _LEFT_ALONE_SECONDS
            _log.warning("loss.not_recorded", task_id=self.id, error=repr(failure))

    def record(self, error: Exception) -> None:
        """Give the run back, or count the attempt as lost."""
        # The same thread forks the pool's processes, so none is born in the middle of this.
        owner = f"{self.hostname}:{self.worker_pid}"
        databases = _databases_of(site_of(self.app))
        try:
            if self.stopped_by_us:
                moved = give_back(databases, self.id, owner)
            else:
                moved = record_loss(databases, self.id, owner, error)
        finally:
            databases.dispose_sync()
        if moved:
            event = "attempt.given_back" if self.stopped_by_us else "attempt.lost"
            _log.warning(event, task_id=self.id, task=self.name, error=str(error))


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
