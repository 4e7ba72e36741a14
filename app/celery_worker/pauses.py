"""Paused queues: a worker reads their table and consumes from the others only; drained, from none.

What it has taken from a paused queue and not begun goes back to the head of that queue; what runs
ends. Nothing is kept in a process: a worker that starts or reconnects reads the table first.
"""

import contextlib
import threading
from typing import Any, Final

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

# A pause is obeyed after this long at the latest.
POLL_SECONDS: Final = 2.0


class ObeyPauses(bootsteps.StartStopStep):
    """Keeps a consumer off the queues that somebody has paused, from its first message on."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        super().__init__(c, **kwargs)
        self._watch: PauseWatch | None = None

    def start(self, c: Any) -> None:
        # Once for each connection; the loop that consumes starts after all steps.
        self._watch = PauseWatch(c)
        self._watch.begin()

    def stop(self, c: Any) -> None:  # noqa: ARG002 - Celery's signature
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()


class PauseWatch:
    """A thread that reads which classes are paused and has the consumer's own thread obey."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._databases = Databases(site_of(consumer.app).settings.databases)
        self._ended = threading.Event()
        self._failing = False
        self._obeyed: frozenset[str] = frozenset()

    def begin(self) -> None:
        """Obey what the table says now, then go on watching it."""
        self._look(self._obey)
        threading.Thread(target=self._run, name="taskyard-pauses", daemon=True).start()

    def end(self) -> None:
        """Watch no more; a look that is under way changes nothing."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            self._look(self._tell)
        self._databases.dispose_sync()

    def _look(self, act: Any) -> None:
        try:
            with GATE:
                paused = self._read()
        except Exception as error:  # noqa: BLE001 - a database that is away comes back
            # What was paused stays paused. Once for each outage, not every second of it.
            if not self._failing:
                _log.warning("pauses.not_read", error=repr(error))
            self._failing = True
            return
        self._failing = False
        if paused != self._obeyed:
            act(paused)

    def _read(self) -> frozenset[str]:
        """Return the classes not to consume from: all of them while the worker is drained."""
        paused = pauses_of(self._databases, self._consumer.hostname)
        return frozenset(site_of(self._consumer.app).queue_classes) if paused is None else paused

    def _tell(self, paused: frozenset[str]) -> None:
        """Have the thread obey that owns the connection."""
        self._consumer.call_soon(self._obey_again, paused)
        if inproc.is_inproc(self._consumer.app.conf.broker_url):
            inproc.broker().interrupt()

    def _obey_again(self, paused: frozenset[str]) -> None:
        # Told twice when the thread is slower than the polls, and too late when it reconnects.
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
