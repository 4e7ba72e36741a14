"""Groups of tiny runs: what waits in a queue for them is handed to one process at once.

For a run that takes less than a millisecond Celery's way of one message is the greater part of its
cost: a request, a job of the pool and a trace for each. Here a group is one job, its runs are
claimed in one statement and their successes recorded in one (`Executor.execute_many`), and every
message is acknowledged after that. Nobody waits for a group to fill: what came while all processes
were busy goes with the first message that gets a free one.
"""

import contextlib
import itertools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from amqp.exceptions import RecoverableConnectionError
from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # not in the stubs
from celery.utils.log import get_logger as get_celery_logger
from celery.worker import state

from app.celery_worker.begun import BEGUN
from app.celery_worker.plain_calls import HEADER
from app.celery_worker.requests import PoolWork, loss_of
from app.celery_worker.runtime import soft_limit_of
from app.celery_worker.site import Site
from app.celery_worker.slots import UrgentFirst
from app.celery_worker.worker import run_group
from app.common.logging import get_logger
from app.tasks.execution import PATIENCE_SECONDS, Disposition
from app.tasks.losses import WorkerLost
from app.tasks.transport import Wakeup

_log = get_logger(__name__)
_celery_log = get_celery_logger(__name__)


@dataclass(eq=False, slots=True, weakref_slot=True)
class Delivery:
    """One message for a tiny queue, and the wake-up that it carries."""

    message: Any
    wakeup: Wakeup
    # [hard, soft], in seconds.
    limits: tuple[float | None, float | None]

    @property
    def id(self) -> str:
        return self.wakeup.run_id

    @property
    def delivery_info(self) -> Any:
        return self.message.delivery_info

    @property
    def kind(self) -> tuple[Any, ...]:
        """What the deliveries of a group have in common: the pool has one limit for all."""
        return (self.wakeup.queue, self.wakeup.priority, self.limits)

    @property
    def is_ours(self) -> bool:
        """Whether the broker still waits for an answer: with its channel a delivery is void."""
        return bool(self.message.channel.is_open)

    def settle(self, disposition: Disposition) -> None:
        """Tell the broker what has become of the message."""
        if disposition is Disposition.DONE:
            self.message.ack_log_error(_celery_log, RecoverableConnectionError)
        else:
            self.reject(requeue=disposition is not Disposition.UNKNOWN)

    def reject(self, *, requeue: bool) -> None:
        self.message.reject_log_error(_celery_log, RecoverableConnectionError, requeue=requeue)


class Group(PoolWork):
    """Deliveries that one process has at once; to Celery's state it is a request like any other."""

    acknowledged = False
    _numbers = itertools.count(1)

    def __init__(
        self, worker: Any, deliveries: Sequence[Delivery], again: Callable[[Delivery], object]
    ) -> None:
        first = deliveries[0]
        self.id = f"group-{next(self._numbers)}"
        self.name = first.wakeup.function
        self.app = worker.app
        self.task = worker.app.tasks[self.name]
        self.hostname = worker.hostname
        self.delivery_info = first.delivery_info
        self.worker_pid: int | None = None
        self._pool = worker.pool
        self._deliveries = deliveries
        self._again = again
        self._apply_result: Any = None

    @property
    def run_ids(self) -> Sequence[str]:
        return [delivery.id for delivery in self._deliveries]

    @property
    def begun(self) -> str | None:
        run_id = BEGUN.of(self.worker_pid) if self.worker_pid is not None else None
        return run_id if run_id in self.run_ids else None

    def hand_over(self) -> None:
        """Give the group to the pool; one that is closing takes nothing, and the broker keeps the
        messages.
        """
        hard = self._deliveries[0].limits[0]
        wakeups = [delivery.wakeup for delivery in self._deliveries]
        soft = soft_limit_of(wakeups)
        job = self._pool.apply_async(
            run_group,
            args=(wakeups,),
            accept_callback=self.on_accepted,
            timeout_callback=self.on_timeout,
            callback=self.on_success,
            error_callback=self.on_failure,
            soft_timeout=soft,
            timeout=hard and hard + PATIENCE_SECONDS,
            correlation_id=self.id,
        )
        self._apply_result = job and weakref.ref(job)

    def on_accepted(self, pid: int, _time_accepted: float) -> None:
        self.worker_pid = pid
        state.task_accepted(self)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - billiard's signature
        kind = "soft" if soft else "hard"
        _log.warning("group.time_limit", kind=kind, seconds=timeout, task_id=self.begun)

    def on_success(self, dispositions: Sequence[Disposition]) -> None:
        """Answer the broker; each outcome has been committed."""
        state.task_ready(self, successful=True)
        for delivery, disposition in zip(self._deliveries, dispositions, strict=True):
            if not delivery.is_ours:
                # The connection broke meanwhile. The broker has it delivered again.
                continue
            if disposition is Disposition.AGAIN:
                self._again(delivery)
            else:
                delivery.settle(disposition)

    def on_failure(self, exc_info: Any) -> None:
        """Record what the process cannot, then have all messages come again."""
        state.task_ready(self)
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        self.try_to_record(loss_of(error) or WorkerLost(f"The group was broken off: {error!r}"))
        for delivery in self._deliveries:
            if delivery.is_ours:
                delivery.reject(requeue=True)

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """End the process; `on_failure` sees to its runs."""
        pool.terminate_job(self.worker_pid, signal)

    def cancel(self, pool: Any, signal: Any = None, **_: Any) -> None:
        """End the process, for a worker that stops at once."""
        self.terminate(pool, signal)

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002 - Celery's
        """Return what `celery inspect active` shows."""
        return {
            "id": self.id,
            "name": self.name,
            "hostname": self.hostname,
            "worker_pid": self.worker_pid,
            "runs": list(self.run_ids),
        }


class Grouping:
    """Takes the wake-ups of tiny queues and hands them to a prefork pool in groups."""

    def __init__(self, site: Site, worker: Any) -> None:
        self._sizes = dict(site.settings.celery.tiny_queues)
        self._topology = site.topology
        self._known = site.task_names
        self._worker = worker

    def take(self, message: Any) -> bool:
        """Take a cleaned message, if it is a wake-up of a tiny queue; return whether."""
        headers = message.headers
        if headers["task"] not in self._known or HEADER in headers:
            return False
        routing_key = str((message.delivery_info or {}).get("routing_key") or "")
        queue, priority = self._topology.read_queue(routing_key)
        if queue not in self._sizes:
            return False
        hard, soft = headers["timelimit"]
        wakeup = Wakeup(
            run_id=headers["id"],
            function=headers["task"],
            queue=queue,
            priority=priority,
            timeout_seconds=soft,
            traceparent=headers.get("traceparent"),
        )
        self._wait(Delivery(message, wakeup, (hard, soft)))
        return True

    def _wait(self, delivery: Delivery) -> None:
        self._worker._quick_acquire(self._begin, delivery)  # noqa: SLF001 - as Celery's own handler

    @property
    def _waiting(self) -> UrgentFirst:
        waiting: UrgentFirst = self._worker.semaphore._waiting  # noqa: SLF001 - ours, see slots
        return waiting

    def _begin(self, first: Delivery) -> None:
        """Take what waits beside the delivery that has got a slot, and hand all over."""
        kind = first.kind

        def is_alike(other: Any) -> bool:
            return isinstance(other, Delivery) and other.kind == kind

        more = self._waiting.take_out(is_alike, self._sizes[first.wakeup.queue] - 1)
        self._hand_over(Group(self._worker, [first, *more], self._wait))

    def _hand_over(self, group: Group) -> None:
        group.hand_over()


class InlineGrouping(Grouping):
    """The same in a process that runs the groups itself: what has arrived by then goes together."""

    def __init__(self, site: Site, worker: Any) -> None:
        super().__init__(site, worker)
        self._is_due = False

    def _wait(self, delivery: Delivery) -> None:
        self._waiting.append((self._begin, (delivery,), {}))
        self._be_due()

    def _be_due(self) -> None:
        if not self._is_due:
            self._is_due = True
            hub = self._worker.hub
            hub.call_soon(self._begin_next)
            # What is due in the middle of the loop's turn would wait for its next event.
            if hub._waker is not None:  # noqa: SLF001 - kombu offers no other way in
                hub._waker.wake()  # noqa: SLF001 - as above

    def _begin_next(self) -> None:
        self._take_what_has_arrived()
        self._is_due = False
        # A connection that broke has taken what waited with it.
        if self._waiting:
            begin, arguments, _ = self._waiting.popleft()
            begin(*arguments)
        if self._waiting:
            self._be_due()

    def _take_what_has_arrived(self) -> None:
        connection = self._worker.consumer.connection
        with contextlib.suppress(TimeoutError, BlockingIOError):
            while connection and len(self._waiting) < max(self._sizes.values()):
                connection.drain_events(timeout=0)

    def _hand_over(self, group: Group) -> None:
        try:
            group.hand_over()
        except Exception as error:
            if group not in state.active_requests:
                raise  # It has ended: the broker is in trouble.
            group.on_failure(SimpleNamespace(exception=error))


def grouping_of(site: Site, worker: Any) -> Grouping | None:
    """Return what takes the messages of tiny queues, None for a worker that has none.

    A thread of the embedded form runs one after the other.
    """
    if not site.settings.celery.tiny_queues:
        return None
    if site.is_supervised:
        return InlineGrouping(site, worker)
    return Grouping(site, worker) if getattr(worker.pool, "uses_semaphore", False) else None
