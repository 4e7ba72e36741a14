"""Noticing that no message reaches this worker any more, although its connection looks sound.

RabbitMQ can lose a consumer without telling it: a quorum queue that is deleted and declared again
at once keeps the channel's old count of messages, and every new one is dropped as seen before
(3.10, always). The rows tell: a run of ours is overdue, and nothing keeps this worker from it.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from amqp.exceptions import RecoverableConnectionError
from celery.worker import state

from app.celery_worker.site import Site
from app.common.logging import get_logger
from app.db import Databases
from app.tasks.heartbeat import is_overlooked

_log = get_logger(__name__)

# A run can be overdue for reasons that a new connection does not mend.
_LONGEST_WAIT_SECONDS: Final = 600.0


class Hearing:
    """Makes an idle worker connect anew when a run of its queues is overlooked."""

    def __init__(
        self, site: Site, worker: Any, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._worker = worker
        self._clock = clock
        self._patience = site.settings.celery.overdue_after_seconds
        self._wait = self._patience
        self._silent_since = clock()
        self._taken = state.all_total_count[0]

    def check(self, databases: Databases) -> None:
        """Look once; costs a statement only after the worker was idle for a while."""
        now = self._clock()
        if self._has_taken_some():
            self._wait = self._patience
            self._silent_since = now
        elif self._is_busy():
            self._silent_since = now
        elif now - self._silent_since >= self._wait:
            self._silent_since = now
            if is_overlooked(databases, self._queue_classes(), self._patience):
                self._reconnect()

    def _has_taken_some(self) -> bool:
        before, self._taken = self._taken, state.all_total_count[0]
        return self._taken != before

    def _is_busy(self) -> bool:
        """Whether it works, or has no connection that could be deaf."""
        consumer = getattr(self._worker, "consumer", None)
        connected = self._worker.hub is not None and getattr(consumer, "connection", None)
        return bool(state.reserved_requests or state.active_requests or not connected)

    def _queue_classes(self) -> frozenset[str]:
        queues = self._worker.app.amqp.queues.consume_from.values()
        return frozenset(queue.queue_class for queue in queues if hasattr(queue, "queue_class"))

    def _reconnect(self) -> None:
        _log.warning("worker.hears_nothing", idle_seconds=self._wait)
        self._wait = min(self._wait * 2, _LONGEST_WAIT_SECONDS)
        self._worker.hub.call_soon(_lose_connection)


def _lose_connection() -> None:
    """End the main loop's connection as a network fault would; Celery opens another."""
    raise RecoverableConnectionError("runs wait, and no message reaches this worker")
