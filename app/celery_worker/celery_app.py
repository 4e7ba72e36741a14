"""The Celery application, made from the settings.

`celery -A app.celery_worker.celery_app worker|beat|inspect ping` works: the attribute `app` is
made on first use from the settings of the environment.
"""

import functools
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from celery import Celery, signals
from celery.app.amqp import AMQP, Queues
from kombu import Consumer, Exchange, Queue

from app.celery_worker import inproc
from app.celery_worker.housekeeping import sweeping_on
from app.celery_worker.runtime import execution_on
from app.celery_worker.site import (
    UNKNOWN_TASK,
    ExecutionFactory,
    FiringFactory,
    ServicesFactory,
    Site,
    SweepingFactory,
    attach,
)
from app.celery_worker.topology import Topology
from app.celery_worker.worker import RunTask, WorkerLife
from app.common.logging import configure_logging
from app.config.loading import load_settings
from app.config.settings import LoggingSettings, Settings
from app.tasks.firing import Firing
from app.tasks.services import load_code, open_services

# RabbitMQ gives up on a silent worker after two of these and hands its messages to another.
_HEARTBEAT_SECONDS: Final = 10


class ClassQueues(Queues):
    """Queues that `--queues` selects by class: `-Q reports` means all three queues of `reports`.

    Those of the classes in `paused` are not consumed from, selected or not.
    """

    paused: frozenset[str] = frozenset()

    @property
    def consume_from(self) -> dict[str, Queue]:
        """The queues to consume from, by name."""
        chosen: dict[str, Queue] = super().consume_from
        return {
            name: queue
            for name, queue in chosen.items()
            if getattr(queue, "queue_class", None) not in self.paused
        }

    @property
    def selected_classes(self) -> frozenset[str]:
        """The classes that the worker was started for, paused or not."""
        chosen = super().consume_from.values()
        return frozenset(queue.queue_class for queue in chosen if hasattr(queue, "queue_class"))

    def select(self, include: Any) -> None:
        names = include.split(",") if isinstance(include, str) else list(include or ())
        super().select([queue.name for name in names for queue in self._of_class(name.strip())])

    def _of_class(self, name: str) -> list[Queue]:
        queues = [queue for queue in self.values() if getattr(queue, "queue_class", None) == name]
        return queues or [self[name]]


class QueueConsumer(Consumer):
    """A consumer of several queues, some with a prefetch count of their own."""

    prefetch: Mapping[str, int] = MappingProxyType({})
    prefetch_elsewhere = 0

    def _basic_consume(self, queue: Queue, *args: Any, **kwargs: Any) -> Any:
        count = self.prefetch.get(queue.name)
        if count is None:
            return super()._basic_consume(queue, *args, **kwargs)
        # What RabbitMQ is told counts for the consumers that begin afterwards, each by itself.
        self.qos(prefetch_count=count, apply_global=False)
        try:
            return super()._basic_consume(queue, *args, **kwargs)
        finally:
            self.qos(prefetch_count=self.prefetch_elsewhere, apply_global=False)


class ClassAMQP(AMQP):
    queues_cls = ClassQueues
    Consumer = QueueConsumer


def create_celery(
    settings: Settings,
    registry_names: Iterable[str],
    *,
    queues: Iterable[str] = (),
    services_factory: ServicesFactory | None = None,
    execution_factory: ExecutionFactory = execution_on,
    sweeping_factory: SweepingFactory = sweeping_on,
    firing_factory: FiringFactory = Firing,
    is_supervised: bool = False,
) -> Celery:
    """Return the app with one Celery task per registered name and our queues for the classes.

    `queues` are the classes beside the default one. Raises InprocOutsideOneProcess when the
    broker is `inproc://` and the process has not said that it runs API and worker together.
    """
    url = settings.celery.broker_url.get_secret_value()
    inproc.check_allowed(url)
    classes = tuple(
        dict.fromkeys((settings.celery.default_queue, *settings.celery.queues, *queues))
    )
    topology = Topology.of(settings.celery)
    site = Site(
        settings,
        topology,
        frozenset(registry_names),
        classes,
        services_factory or (lambda transport: open_services(settings, transport=transport)),
        execution_factory,
        sweeping_factory,
        firing_factory,
        is_supervised,
    )
    app = Celery("taskyard", amqp=ClassAMQP, set_as_current=False)
    attach(app, site)
    app.conf.update(_configuration(settings, topology, classes))
    app.steps["worker"].add(WorkerLife)
    for name in sorted({*site.task_names, UNKNOWN_TASK}):
        app.task(name=name, base=RunTask, bind=True)(RunTask.run)
    _configure_logs(settings.logging)
    return app


def _configuration(
    settings: Settings, topology: Topology, classes: Iterable[str]
) -> dict[str, Any]:
    celery = settings.celery
    url = celery.broker_url.get_secret_value()
    embedded = inproc.is_inproc(url)
    backend = celery.result_backend.get_secret_value() if celery.result_backend else None
    return {
        "broker_url": url,
        "result_backend": backend,
        # Ours keep their results in their rows; the back end is for authors of plain Celery tasks.
        "task_ignore_result": backend is None,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "enable_utc": True,
        "timezone": "UTC",
        "task_queues": _queues(topology, classes, embedded=embedded),
        "task_default_queue": f"{celery.queue_prefix}{celery.default_queue}",
        "task_default_exchange": topology.exchange,
        "task_default_exchange_type": "direct",
        "task_default_routing_key": f"{celery.queue_prefix}{celery.default_queue}",
        "task_create_missing_queues": False,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": celery.prefetch_multiplier,
        "worker_concurrency": celery.concurrency + (0 if embedded else celery.reserved_processes),
        "worker_max_tasks_per_child": celery.max_tasks_per_child,
        # A child opens its services before it says that it is up.
        "worker_proc_alive_timeout": 60.0,
        "worker_consumer": "app.celery_worker.consumer:RunConsumer",
        # A run needs its row, not its message: it goes on, and the copy that the broker delivers
        # meanwhile finds it running. Killed, it would lose its work at every hiccup of the broker.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_detect_quorum_queues": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        "worker_enable_remote_control": not embedded,
        # An exclusive control queue locks out a second worker of the same name (`celery worker`
        # twice on one machine), and newer brokers refuse a shared one that is not durable.
        "control_queue_exclusive": False,
        "control_queue_durable": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # RabbitMQ closes the channel of a run longer than its consumer_timeout (30 minutes), and
        # of a queue that was deleted; the worker opens a new one instead of ending.
        "broker_channel_error_retry": True,
        "broker_heartbeat": _HEARTBEAT_SECONDS,
        "broker_transport_options": {} if embedded else {"confirm_publish": True},
        "beat_scheduler": "app.celery_worker.beat:DatabaseScheduler",
    }


def _queues(topology: Topology, classes: Iterable[str], *, embedded: bool) -> list[Queue]:
    """Return the work queues for Celery to consume from; `DeclareTopology` declares them."""
    exchange = Exchange(topology.exchange, "direct", durable=True, no_declare=True)
    queues = []
    for queue_class in classes:
        for spec in topology.queues(queue_class):
            if spec.exchange == topology.exchange:
                urgency = topology.read_queue(spec.name)[1]
                queue = Queue(
                    spec.name,
                    exchange,
                    spec.routing_key,
                    queue_arguments=dict(spec.arguments),
                    # With RabbitMQ the worker's slots have the order, in one process the broker.
                    consumer_arguments={"x-priority": urgency} if embedded else None,
                    no_declare=True,
                )
                queue.queue_class = queue_class  # type: ignore[attr-defined]  # ours, for `-Q`
                queues.append(queue)
    return queues


def _configure_logs(settings: LoggingSettings) -> None:
    """Keep Celery's hands off the logs: its signal's mere receiver stops its own set-up."""

    def configure(**_: Any) -> None:
        configure_logging(settings.level, settings.format)

    signals.setup_logging.connect(configure, weak=False, dispatch_uid="taskyard.logging")


def create_app(
    settings: Settings,
    services_factory: ServicesFactory | None = None,
    *,
    is_supervised: bool = False,
) -> Celery:
    """Return the app with every task of the settings' plugins, loaded once for all children."""
    inproc.check_allowed(settings.celery.broker_url.get_secret_value())
    code = load_code(settings)
    registry = code[1]
    return create_celery(
        settings,
        registry.names(),
        queues=registry.queues(),
        services_factory=services_factory
        or (lambda transport: open_services(settings, transport=transport, code=code)),
        is_supervised=is_supervised,
    )


@functools.cache
def app_of_environment() -> Celery:
    """Return the app of this process, made once from its environment."""
    settings = load_settings()
    return create_app(settings)


def __getattr__(name: str) -> Celery:
    if name in {"app", "celery_app"}:
        return app_of_environment()
    raise AttributeError(name)
