"""A broker behind a proxy, with names of its own."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from app.celery_worker import connections
from app.celery_worker.topology import Topology
from app.common.ids import new_id
from app.config.settings import CelerySettings
from app.tasks.transport import Wakeup
from tests.integration.celery_worker.proxy import Proxy
from tests.services import Services


@dataclass
class ProxiedBroker:
    """Settings that lead through the proxy, and a look at the broker past it."""

    proxy: Proxy
    settings: CelerySettings
    direct_url: str

    @property
    def topology(self) -> Topology:
        return Topology.of(self.settings)

    def wakeups(self, count: int) -> list[Wakeup]:
        return [Wakeup(new_id(), "test.task", "default") for _ in range(count)]

    def ids_on_queue(self) -> set[str]:
        """Take everything from the normal queue; return the ids."""
        connection: Any = connections.open_connection(self.direct_url, timeout_seconds=5)
        queue = self.topology.broker_queue("default", 5)
        found = set()
        with connection.channel() as channel:
            while (raw := channel.basic_get(queue, no_ack=True)) is not None:
                found.add(channel.message_to_python(raw).headers["id"])
        connection.close()
        return found

    def delete_names(self) -> None:
        connection: Any = connections.open_connection(self.direct_url, timeout_seconds=5)
        with connection.channel() as channel:
            for queue in self.topology.queues("default"):
                channel.queue_delete(queue.name)
            for exchange in self.topology.exchanges():
                channel.exchange_delete(exchange.name)
        connection.close()


@pytest.fixture
def proxied(services: Services) -> Iterator[ProxiedBroker]:
    url = services.amqp_url
    proxy = Proxy(url)
    name = f"taskyard-test-{secrets.token_hex(4)}"
    settings = CelerySettings(
        broker_url=SecretStr(proxy.url),
        namespace=name,
        queue_prefix=f"{name}.",
        publish_timeout_seconds=1.0,
    )
    broker = ProxiedBroker(proxy, settings, url)
    try:
        yield broker
    finally:
        proxy.close()
        broker.delete_names()
