"""The worker's consumer: no message, whatever its bytes, ends a worker or disappears.

Stock Celery acknowledges and so loses what it cannot decode, and dies of a body that is valid
JSON of another shape. Here everything that is not a wake-up of ours is rejected, and the broker
takes it to the dead-letter queue.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from amqp.exceptions import ConsumerCancelled
from celery import bootsteps
from celery.exceptions import WorkerShutdown
from celery.utils.log import get_logger as get_celery_logger
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu import Connection, compression

from app.celery_worker import connections
from app.celery_worker.groups import grouping_of
from app.celery_worker.inspection import BadMessage, celery_builtins, cleaned
from app.celery_worker.pauses import ObeyPauses
from app.celery_worker.site import site_of
from app.common.logging import get_logger

_log = get_logger(__name__)
_celery_log = get_celery_logger(__name__)

_FIRST_RECONNECT_SECONDS: Final = 0.5
_RECONNECT_STEP_SECONDS: Final = 0.5
_LONGEST_RECONNECT_SECONDS: Final = 5.0
# A broker that answers and refuses us (no such user, no right, no vhost) is asked again after this.
_REFUSED_SECONDS: Final = 2.0
# Of a queue for tiny tasks: one group at work and one that waits for its process.
_GROUPS_AHEAD: Final = 2


class DeclareTopology(bootsteps.StartStopStep):
    """Declares our queues before the worker consumes from them; ends the start when one differs."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def start(self, c: Any) -> None:
        site = site_of(c.app)
        try:
            connections.declare(c.connection, site.topology, site.queue_classes)
        except connections.TopologyMismatch as error:
            # Trying again would change nothing; the process ends and says why.
            _log.critical("broker.topology_mismatch", detail=error.detail, hint=error.hint)
            raise WorkerShutdown(1) from error


class Prefetch(bootsteps.StartStopStep):
    """Has the broker send more messages ahead for queues of tiny tasks than for the others."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        site = site_of(c.app)
        if grouping_of(site, c.controller) is None:
            return
        processes = c.pool.num_processes
        c.task_consumer.prefetch_elsewhere = c.initial_prefetch_count
        c.task_consumer.prefetch = {
            name: size * processes * _GROUPS_AHEAD
            for queue_class, size in site.settings.celery.tiny_queues.items()
            for name in site.topology.work_queue_names(queue_class)
        }


class RunConsumer(Consumer):
    """Celery's consumer without native delayed delivery, and with a guard before every message."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[valid-type, misc]  # a class, says Celery
        # Native delayed delivery would declare 28 queues and 29 exchanges that nothing here uses.
        default_steps = (
            *(step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step),
            DeclareTopology,
            Prefetch,
            ObeyPauses,
        )

    controller: Any
    strategies: dict[str, Any]
    connection_errors: tuple[type[BaseException], ...]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # They would cost a second at every start and share what nothing here uses.
        without = {"without_mingle": True, "without_gossip": True}
        _refuse_compressed()
        kwargs["worker_options"] = {**(kwargs.get("worker_options") or {}), **without}
        super().__init__(*args, **kwargs)

    def update_strategies(self) -> None:
        """Take messages for our tasks and for those that authors registered with Celery.

        Celery's own (`celery.map`, `celery.chord_unlock` …) stay callable in the process, but
        nobody has asked for them: a message that names one would run code of its sender's choice.
        """
        super().update_strategies()
        for name in celery_builtins(self.app):
            self.strategies.pop(name, None)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return Celery's handler behind our guard."""
        site = site_of(self.app)
        handle = super().create_task_handler(*args, **kwargs)
        takes_calls = site.settings.celery.plain_producers
        largest = site.settings.limits.max_params_bytes if takes_calls else None
        grouping = grouping_of(site, self.controller)

        def on_message(message: Any) -> None:
            try:
                message = cleaned(message, site.task_names, self.strategies, largest)
            except BadMessage as refusal:
                self.refuse(message, str(refusal))
                return
            try:
                if grouping is None or not grouping.take(message):
                    handle(message)
            except self.connection_errors:
                raise
            except Exception as error:  # noqa: BLE001 - one message must not end a worker that runs others
                _log.exception("message.handler_failed")
                self.refuse(message, f"the worker could not take it: {error!r}")

        return on_message

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Wait: nobody else does when the broker refuses the connection instead of being away."""
        super().on_connection_error_before_connected(exc)
        time.sleep(_REFUSED_SECONDS)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of the connection; a queue that was deleted is not declared again at once."""
        super().on_connection_error_after_connected(exc)
        if isinstance(exc, ConsumerCancelled):
            time.sleep(connections.QUEUE_GONE_SECONDS)

    def on_close(self) -> None:
        """Forget the old connection's messages; what runs goes on and keeps its slots."""
        super().on_close()
        semaphore = getattr(self.controller, "semaphore", None)
        if semaphore is not None:
            # Celery frees all slots here, and would hold a message for a process that is busy.
            semaphore.value = max(0, semaphore.initial_value - len(state.active_requests))

    def refuse(self, message: Any, why: str) -> None:
        """Reject a message: it goes to the dead-letter queue of the queue that it came from."""
        info = message.delivery_info or {}
        _log.warning("message.refused", why=why, routing_key=info.get("routing_key"))
        if not message.acknowledged:
            message.reject_log_error(_celery_log, self.connection_errors)

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        self.refuse(message, f"it cannot be decoded: {exc!r}")

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002 - Celery's signature
        self.refuse(message, "it is not a task message")

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:  # noqa: ARG002 - as above
        self.refuse(message, f"no task of this name is registered: {exc}")

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> None:  # noqa: ARG002 - as above
        self.refuse(message, f"it is not a valid task message: {exc!r}")

    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect, however long it takes; never more than five seconds after the broker is back."""

        def on_error(error: BaseException, seconds: float) -> None:
            _log.warning(
                "broker.unreachable",
                broker=conn.as_uri(),
                error=repr(error),
                next_try_in_seconds=seconds,
            )

        conn.ensure_connection(
            on_error,
            max_retries=None,  # type: ignore[arg-type]  # for ever; the stubs know whole numbers only
            interval_start=_FIRST_RECONNECT_SECONDS,  # type: ignore[arg-type]  # as above
            interval_step=_RECONNECT_STEP_SECONDS,  # type: ignore[arg-type]  # as above
            interval_max=_LONGEST_RECONNECT_SECONDS,  # type: ignore[arg-type]  # as above
            callback=state.maybe_shutdown,
        )
        self.first_connection_attempt = False
        return conn


def _refuse_compressed() -> None:
    """Make kombu refuse compressed bodies: it would inflate a bomb before our guard sees it."""

    def refuse(_: Any) -> Any:
        raise ValueError("compressed messages are not taken")

    for content_type in compression.encoders():
        compression.register(refuse, refuse, content_type)
