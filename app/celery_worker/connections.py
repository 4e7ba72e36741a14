"""Broker connections whose every wait is bounded, and the declaration of the topology on them."""

from collections.abc import Iterable
from typing import Any, Final

from amqp.exceptions import PreconditionFailed
from kombu import Connection

from app.celery_worker import inproc
from app.celery_worker.topology import QueueSpec, Topology, all_queues
from app.common.errors import ConfigurationError, ServiceUnavailable

# RabbitMQ tells the consumers of a deleted queue, unless it exists again by then: it connects them
# to the new queue with the old count of messages, and they get none (3.10; see `hearing`).
QUEUE_GONE_SECONDS: Final = 0.5


class TopologyMismatch(ConfigurationError):
    """A queue or exchange of ours exists on the broker with other arguments."""

    code = "BROKER_TOPOLOGY_MISMATCH"
    title = "The broker's queues do not fit"


class BrokerUnavailable(ServiceUnavailable):
    """The message broker does not answer in time."""

    code = "BROKER_UNAVAILABLE"
    title = "The message broker does not answer"


def open_connection(
    url: str, *, timeout_seconds: float, heartbeat_seconds: float = 0
) -> Connection:
    """Return an open connection on which no read or write waits longer than the timeout.

    Raises kombu's and the socket's own errors when the broker is not there.
    """
    inproc.check_allowed(url)
    connection = Connection(url, connect_timeout=timeout_seconds, heartbeat=heartbeat_seconds)
    # One try per host of the URL: kombu's own `connect` sleeps two seconds and tries again.
    connection.ensure_connection(max_retries=max(len(connection.alt) - 1, 0), interval_start=0)
    # py-amqp puts its socket into blocking mode after the handshake, and a frozen broker would
    # then hold a plain `channel.open` for ever.
    transport = getattr(connection.connection, "transport", None)
    if transport is not None and getattr(transport, "sock", None) is not None:
        transport.sock.settimeout(timeout_seconds)
    return connection


def declare(connection: Connection, topology: Topology, classes: Iterable[str]) -> None:
    """Declare the exchanges and the queues of the classes; TopologyMismatch when one differs."""
    with connection.channel() as channel:
        declare_exchanges(channel, topology)
        for queue in all_queues(topology, classes):
            declare_queue(channel, queue)


def declare_exchanges(channel: Any, topology: Topology) -> None:
    """Declare the three exchanges; TopologyMismatch when one has another type."""
    for exchange in topology.exchanges():
        try:
            channel.exchange_declare(exchange.name, exchange.type, durable=True, auto_delete=False)
        except PreconditionFailed as error:
            raise _mismatch("exchange", exchange.name, error) from error


def declare_queue(channel: Any, queue: QueueSpec) -> None:
    """Declare and bind one queue; TopologyMismatch when it exists with other arguments."""
    try:
        channel.queue_declare(
            queue.name,
            durable=True,
            exclusive=False,
            auto_delete=False,
            arguments=dict(queue.arguments),
        )
    except PreconditionFailed as error:
        raise _mismatch("queue", queue.name, error) from error
    channel.queue_bind(queue.name, queue.exchange, queue.routing_key)


def _mismatch(kind: str, name: str, error: PreconditionFailed) -> TopologyMismatch:
    return TopologyMismatch(
        f"The {kind} {name!r} exists on the broker with other arguments: {error.reply_text}",
        hint=(
            f"Let its messages run out and delete it (`rabbitmqctl delete_queue {name}`); it is "
            "declared again at the next start. Or set another `celery.namespace` and "
            "`celery.queue_prefix`."
        ),
    )
