"""The arguments that RabbitMQ has, asked by declaring them again: it refuses any other."""

from typing import Any

import pytest
from amqp.exceptions import PreconditionFailed

from app.celery_worker import connections
from app.celery_worker.publishing import Publisher
from tests.integration.celery_worker.conftest import ProxiedBroker


@pytest.fixture
def declared(proxied: ProxiedBroker) -> ProxiedBroker:
    connection = connections.open_connection(proxied.direct_url, timeout_seconds=5)
    connections.declare(connection, proxied.topology, ["default"])
    connection.close()
    return proxied


def redeclare(broker: ProxiedBroker, name: str, arguments: dict[str, Any]) -> None:
    connection: Any = connections.open_connection(broker.direct_url, timeout_seconds=5)
    try:
        connection.channel().queue_declare(
            name, durable=True, auto_delete=False, arguments=arguments
        )
    finally:
        connection.close()


@pytest.mark.parametrize("suffix", ["", ".high", ".low"])
def test_work_queues(declared: ProxiedBroker, suffix: str) -> None:
    name = declared.settings.namespace
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": f"{name}.dlx",
        "x-dead-letter-routing-key": f"{name}.default.dlq",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    redeclare(declared, f"{name}.default{suffix}", arguments)
    with pytest.raises(PreconditionFailed):
        redeclare(declared, f"{name}.default{suffix}", {**arguments, "x-delivery-limit": 3})


def test_the_dead_letter_queue_drops_nothing(declared: ProxiedBroker) -> None:
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
    redeclare(declared, f"{declared.settings.namespace}.default.dlq", arguments)


def test_delay_queues_lead_back_and_expire(declared: ProxiedBroker) -> None:
    queue = declared.topology.delay_queue(f"{declared.settings.namespace}.default", 5.0, 0.0)
    connection: Any = connections.open_connection(declared.direct_url, timeout_seconds=5)
    connections.declare_queue(connection.channel(), queue)
    connection.close()
    name = declared.settings.namespace
    redeclare(
        declared,
        f"{name}.default.delay.5000.0",
        {
            "x-queue-type": "quorum",
            "x-message-ttl": 5000,
            "x-expires": 5000 + 660_000,
            "x-dead-letter-exchange": name,
            "x-dead-letter-routing-key": f"{name}.default",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )


def test_the_publisher_declares_the_same(declared: ProxiedBroker) -> None:
    publisher = Publisher(declared.settings)
    assert publisher.send(declared.wakeups(1))
    publisher.close()
