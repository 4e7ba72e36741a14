"""Paused queues: a worker hears of them and consumes from the others only; drained, from none.

What it has taken from a paused queue and not begun goes back to the head of that queue; what runs
ends. Nothing is kept in a process: a worker that starts or reconnects reads the table first.
"""

import contextlib
import threading
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger as get_celery_logger
from celery.worker import state

from app.celery_worker import inproc
from app.celery_worker.leases import GATE
from app.celery_worker.site import site_of
from app.celery_worker.slots import UrgentFirst
from app.common.logging import get_logger
from app.db import Databases
from app.tasks.queues import pauses_of

_log = get_logger(__name__)
_celery_log = get_celery_logger(__name__)


class ObeyPauses(bootsteps.StartStopStep):
    """Keeps a consumer off the queues that somebody has paused, from its first message on."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        super().__init__(c, **kwargs)
        c.pauses = None

    def start(self, c: Any) -> None:
        # Once for each connection; the loop that consumes starts after all steps.
        c.pauses = Pauses(c)
        c.pauses.begin()

    def stop(self, c: Any) -> None:
        pauses, c.pauses = c.pauses, None
        if pauses is not None:
            pauses.end()


class Pauses:
    """Has the consumer's own thread obey the pauses that the worker hears of with each heartbeat
    (`app.celery_worker.leases`).
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._ended = threading.Event()
        # What was obeyed on the connection before is obeyed until something else is heard.
        self._obeyed: frozenset[str] = consumer.app.amqp.queues.paused

    def begin(self) -> None:
        """Obey what the table says now; without a database what was paused waits to be heard."""
        databases = Databases(site_of(self._consumer.app).settings.databases)
        try:
            with GATE:
                paused = pauses_of(databases, self._consumer.hostname)
        except Exception as error:  # noqa: BLE001 - a database that is away comes back
            _log.warning("pauses.not_read", error=repr(error))
            return
        finally:
            databases.dispose_sync()
        classes = self._classes(paused)
        if classes != self._obeyed:
            self._obey(classes)

    def end(self) -> None:
        """Obey no more."""
        self._ended.set()

    def hear(self, paused: frozenset[str] | None) -> None:
        """Take the paused classes, None when the worker is drained; called on any thread."""
        classes = self._classes(paused)
        if classes != self._obeyed and not self._ended.is_set():
            self._tell(classes)

    def _classes(self, paused: frozenset[str] | None) -> frozenset[str]:
        """Return the classes not to consume from: all of them while the worker is drained."""
        return frozenset(site_of(self._consumer.app).queue_classes) if paused is None else paused

    def _tell(self, paused: frozenset[str]) -> None:
        """Have the thread obey that owns the connection."""
        self._consumer.call_soon(self._obey_again, paused)
        if inproc.is_inproc(self._consumer.app.conf.broker_url):
            inproc.broker().interrupt()

    def _obey_again(self, paused: frozenset[str]) -> None:
        # Told twice when the thread is slower than the heartbeats, and too late when it reconnects.
        if self._ended.is_set() or paused == self._obeyed:
            return
        self._obey(paused)
        # Queues that were resumed; those that are consumed from already stay as they are.
        self._consumer.task_consumer.consume()

    def _obey(self, paused: frozenset[str]) -> None:
        queues = self._consumer.app.amqp.queues
        queues.paused = paused
        tasks = self._consumer.task_consumer
        wanted = queues.consume_from
        for queue in list(tasks.queues):
            if queue.name not in wanted:
                tasks.cancel_by_queue(queue.name)
        for name, queue in wanted.items():
            if not any(known.name == name for known in tasks.queues):
                tasks.add_queue(queue)
        _give_back(self._consumer.controller, paused, site_of(self._consumer.app).topology)
        _log.info("pauses.obeyed", paused=sorted(paused))
        self._obeyed = paused


def _give_back(worker: Any, paused: frozenset[str], topology: Any) -> None:
    """Return what waits for a slot of a prefork pool to the head of its queue, in its order."""
    waiting = getattr(getattr(worker, "semaphore", None), "_waiting", None)
    if not isinstance(waiting, UrgentFirst):
        return

    def is_meant(request: Any) -> bool:
        routing_key = str((request.delivery_info or {}).get("routing_key") or "")
        return topology.read_queue(routing_key)[0] in paused

    for request in waiting.take_out(is_meant):
        with contextlib.suppress(Exception):  # A connection that broke has given them back itself.
            request.reject(requeue=True)
        state.task_ready(request)
