"""What `taskyard doctor` sees on the broker. It declares nothing that is not there."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from amqp.exceptions import NotFound, PreconditionFailed
from kombu import Connection

from app.celery_worker.confirms import BROKER_TROUBLE, ConfirmChannel, Letter
from app.celery_worker.connections import open_connection
from app.celery_worker.topology import QueueSpec, Topology, all_queues
from app.common.findings import Finding, good, is_older
from app.common.ids import new_id
from app.common.redaction import mask_text
from app.config.settings import CelerySettings

_MINIMUM: Final = (3, 10)
_SHIPPED_CONSUMER_TIMEOUT: Final = 1800.0
# What stock Celery leaves behind: the queues of its delayed delivery, and its default queue.
_DELAYED: Final = "celery_delayed_27"
_STOCK: Final = "celery"


@dataclass(frozen=True, slots=True)
class _Seen:
    """A queue of ours as it is on the broker; `mismatch` is the broker's word on its arguments."""

    spec: QueueSpec
    messages: int = 0
    consumers: int = 0
    is_missing: bool = False
    mismatch: str | None = None


def check_broker(
    settings: CelerySettings, queue_classes: Sequence[str], longest_timeout_seconds: float
) -> Iterator[Finding]:
    """Yield what there is to say of RabbitMQ and of our queues on it."""
    try:
        connection = open_connection(
            settings.broker_url.get_secret_value(), timeout_seconds=settings.publish_timeout_seconds
        )
        try:
            topology = Topology.of(settings)
            yield _check_version(connection)
            yield _check_alarm(connection, settings.publish_timeout_seconds)
            yield from _check_queues(connection, topology, queue_classes)
            yield from _check_leftovers(connection)
        finally:
            connection.collect(socket_timeout=0.1)
    except BROKER_TROUBLE as error:
        yield Finding(
            check="broker",
            level="fail",
            what=f"{_address(settings)} does not answer: {mask_text(str(error) or repr(error))}",
            why="Runs are accepted and wait in their rows until it is back.",
            fix="rabbitmqctl status",
            unavailable=True,
        )
    yield _check_consumer_timeout(longest_timeout_seconds)


def check_celery_settings(settings: CelerySettings) -> Iterator[Finding]:
    """Yield the settings that are allowed and often a mistake."""
    if settings.prefetch_multiplier > 1:
        yield Finding(
            check="prefetch",
            level="warn",
            what=f"celery.prefetch_multiplier is {settings.prefetch_multiplier}",
            why="A worker then holds runs back that another could start; only tiny tasks gain.",
            fix="export TASKYARD_CELERY__PREFETCH_MULTIPLIER=1",
        )
    if settings.delivery_limit < _LEAST_DELIVERIES:
        yield Finding(
            check="delivery limit",
            level="warn",
            what=f"celery.delivery_limit is {settings.delivery_limit}",
            why="Each restart of a worker counts for the messages it had taken and not begun, so "
            "healthy ones end in the dead-letter queue.",
            fix="export TASKYARD_CELERY__DELIVERY_LIMIT=20",
        )
    if settings.result_backend is not None:
        yield Finding(
            check="result backend",
            level="warn",
            what="celery.result_backend is set",
            why="Registered tasks do not use it: their results are in the database. Only plain "
            "Celery tasks do.",
            fix="unset TASKYARD_CELERY__RESULT_BACKEND CELERY_RESULT_BACKEND",
        )


_LEAST_DELIVERIES: Final = 5


def _check_version(connection: Connection) -> Finding:
    facts = connection.connection.server_properties
    product, version = str(facts.get("product", "broker")), str(facts.get("version", "0"))
    if is_older(version, _MINIMUM):
        return Finding(
            check="broker",
            level="fail",
            what=f"{product} {version}",
            why="RabbitMQ 3.10 is the oldest whose quorum queues have what we declare.",
            fix="upgrade RabbitMQ, then: taskyard doctor",
        )
    return good("broker", f"{product} {version}")


def _check_alarm(connection: Connection, patience_seconds: float) -> Finding:
    """Publish one message to a queue of our own: under an alarm the broker confirms nothing."""
    with _channel(connection) as channel:
        queue = channel.queue_declare("", exclusive=True, auto_delete=True).queue
        confirms = ConfirmChannel(connection, channel)
        confirms.listen()
        deadline = time.monotonic() + patience_seconds
        letter = Letter(new_id(), "", queue, {}, "")
        with contextlib.suppress(TimeoutError):
            confirms.publish([letter], deadline)
            confirms.await_confirms(deadline)
        if letter.run_id in confirms.sent():
            return good("broker alarm", "a message is confirmed")
    return Finding(
        check="broker alarm",
        level="fail",
        what=f"a message is not confirmed within {patience_seconds:g} s",
        why="With a memory or disk alarm RabbitMQ takes nothing from publishers.",
        fix="rabbitmq-diagnostics check_local_alarms",
    )


def _check_queues(
    connection: Connection, topology: Topology, queue_classes: Sequence[str]
) -> Iterator[Finding]:
    seen = [_look_at(connection, spec) for spec in all_queues(topology, queue_classes)]
    yield from _check_missing(connection, topology, seen)
    for queue in seen:
        if queue.mismatch is not None:
            yield _mismatch("queue", queue.spec.name, queue.mismatch)
    for queue_class in queue_classes:
        yield from _check_consumers(topology, queue_class, seen)


def _channel(connection: Connection) -> Any:
    """Return a channel of its own for each question: a refusal closes it."""
    return connection.channel()


def _look_at(connection: Connection, spec: QueueSpec) -> _Seen:
    try:
        with _channel(connection) as channel:
            found = channel.queue_declare(spec.name, passive=True)
    except NotFound:
        return _Seen(spec, is_missing=True)
    try:
        # It is there, so this declares nothing: the broker compares the arguments.
        with _channel(connection) as channel:
            channel.queue_declare(
                spec.name, durable=True, auto_delete=False, arguments=dict(spec.arguments)
            )
    except PreconditionFailed as error:
        return _Seen(spec, found.message_count, found.consumer_count, mismatch=error.reply_text)
    return _Seen(spec, found.message_count, found.consumer_count)


def _check_missing(
    connection: Connection, topology: Topology, seen: Sequence[_Seen]
) -> Iterator[Finding]:
    missing = [queue.spec.name for queue in seen if queue.is_missing]
    for exchange in topology.exchanges():
        try:
            with _channel(connection) as channel:
                channel.exchange_declare(exchange.name, exchange.type, passive=True, durable=True)
            with _channel(connection) as channel:
                channel.exchange_declare(
                    exchange.name, exchange.type, durable=True, auto_delete=False
                )
        except NotFound:
            missing.append(exchange.name)
        except PreconditionFailed as error:
            yield _mismatch("exchange", exchange.name, str(error.reply_text))
    if missing:
        yield Finding(
            check="topology",
            level="warn",
            what=f"not on the broker: {', '.join(missing)}",
            why="Workers and beat declare them when they start; until then messages wait in rows.",
            fix="taskyard beat",
        )
    else:
        yield good("topology", f"{len(seen)} queues and {len(topology.exchanges())} exchanges")


def _mismatch(kind: str, name: str, told: str) -> Finding:
    is_queue = kind == "queue"
    return Finding(
        check="topology",
        level="fail",
        what=f"the {kind} '{name}' was declared differently: {told}",
        why="Somebody else has declared it, or an older version. No worker of ours starts on it.",
        fix=f"rabbitmqctl delete_queue {name}"
        if is_queue
        else "export TASKYARD_CELERY__NAMESPACE=another_name",
    )


def _check_consumers(
    topology: Topology, queue_class: str, seen: Sequence[_Seen]
) -> Iterator[Finding]:
    by_name = {queue.spec.name: queue for queue in seen}
    work = [by_name[name] for name in topology.work_queue_names(queue_class)]
    waiting = sum(queue.messages for queue in work)
    consumers = min(queue.consumers for queue in work)
    if consumers:
        yield good(f"queue {queue_class}", f"{waiting} messages, {consumers} workers")
    else:
        yield Finding(
            check=f"queue {queue_class}",
            level="fail" if waiting else "warn",
            what=f"{waiting} messages and no worker",
            why="Runs of this class wait until a worker takes it.",
            fix=f"taskyard worker --queues {queue_class}",
        )
    dead = by_name[topology.dead_letter_queue_name(queue_class)]
    if dead.messages:
        yield Finding(
            check=f"dead letters {queue_class}",
            level="warn",
            what=f"{dead.messages} messages lie in {dead.spec.name}",
            why="Beat archives them within seconds; they stay while none is alive, or while the "
            "database refuses them.",
            fix="taskyard beat",
        )


def _check_leftovers(connection: Connection) -> Iterator[Finding]:
    delayed = _count(connection, _DELAYED)
    if delayed is not None:
        yield Finding(
            check="leftovers",
            level="warn",
            what=f"the queues of Celery's own delayed delivery are there ({_DELAYED} and others)",
            why="Nothing of ours uses them: a stock Celery worker was started here.",
            fix="for n in $(seq 0 27); do rabbitmqctl delete_queue celery_delayed_$n; done",
        )
    stock = _count(connection, _STOCK)
    if stock is not None and stock[0] and not stock[1]:
        yield Finding(
            check="leftovers",
            level="warn",
            what=f"{stock[0]} messages wait in the queue 'celery', which no worker takes",
            why="A plain Celery producer sends to its own default queue.",
            fix="set task_default_queue and task_default_exchange of the producer to ours",
        )


def _count(connection: Connection, queue: str) -> tuple[int, int] | None:
    """Return messages and consumers of a queue, None when it is not there."""
    try:
        with _channel(connection) as channel:
            found: Any = channel.queue_declare(queue, passive=True)
    except NotFound:
        return None
    return found.message_count, found.consumer_count


def _check_consumer_timeout(longest_timeout_seconds: float) -> Finding:
    if longest_timeout_seconds < _SHIPPED_CONSUMER_TIMEOUT:
        return good(
            "consumer timeout",
            f"the longest task has {longest_timeout_seconds:g} s, RabbitMQ's default is "
            f"{_SHIPPED_CONSUMER_TIMEOUT:g} s",
        )
    wanted = round((longest_timeout_seconds + 3600) * 1000)
    return Finding(
        check="consumer timeout",
        level="warn",
        what=f"a task may run for {longest_timeout_seconds:g} s",
        why="RabbitMQ closes the channel of a consumer that holds a message longer than "
        "consumer_timeout (30 minutes as shipped); AMQP does not tell its value.",
        fix=f"rabbitmqctl eval 'application:set_env(rabbit, consumer_timeout, {wanted}).'",
    )


def _address(settings: CelerySettings) -> str:
    url = settings.broker_url.get_secret_value()
    return url.rpartition("@")[2].removeprefix("amqp://").removeprefix("amqps://").split("?")[0]
