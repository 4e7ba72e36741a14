"""What a worker tells of itself with each heartbeat."""

from typing import Any

from celery.worker import state

from app.db import Databases
from app.tasks.workers import WorkerFacts, announce, leave


class Presence:
    """The row of one worker, kept by the thread that beats its leases."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._is_new = True

    def tell(self, databases: Databases) -> frozenset[str] | None:
        """Write the row, the first time as a worker that has just started; return the paused
        classes, None when this worker is drained.
        """
        paused = announce(databases, self._facts(), is_new=self._is_new)
        self._is_new = False
        return paused

    def end(self, databases: Databases) -> None:
        """Delete the row: the worker ends as it was told to."""
        if not self._is_new:
            leave(databases, self._worker.hostname)

    def _facts(self) -> WorkerFacts:
        return WorkerFacts(
            name=self._worker.hostname,
            queues=sorted(self._worker.app.amqp.queues.selected_classes),
            concurrency=self._worker.concurrency,
            active=len(state.active_requests),
        )
