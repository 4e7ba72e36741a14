"""One set of cases for both brokers: the in-process one and RabbitMQ."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr

from app.celery_worker import connections, inproc
from app.celery_worker.delays import rung_for
from app.celery_worker.publishing import Publisher
from app.celery_worker.topology import Topology
from app.common.ids import new_id
from app.config.settings import CelerySettings
from app.tasks.transport import Wakeup
from tests.services import Services

PATIENCE_SECONDS = 20.0


@dataclass
class Broker:
    """A broker under test with names of its own; what was declared is deleted at the end."""

    settings: CelerySettings
    connection: Any  # the stubs know little of a channel
    topology: Topology
    publisher: Publisher
    rungs: set[int] = field(default_factory=set)

    @property
    def is_rabbitmq(self) -> bool:
        return self.settings.broker_url.get_secret_value().startswith("amqp")

    def wakeup(self, **fields: Any) -> Wakeup:
        wakeup = Wakeup(
            **{"run_id": new_id(), "function": "test.task", "queue": "default", **fields}
        )
        self.rungs.add(rung_for(wakeup.delay_seconds))
        return wakeup

    def get(self, queue: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """Return the next message of a queue, None when none comes in time."""
        deadline = time.monotonic() + seconds
        with self.connection.channel() as channel:
            while True:
                raw = channel.basic_get(queue)
                if raw is not None:
                    message = channel.message_to_python(raw)
                    message.ack()
                    return message
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.02)

    def ready(self, queue: str) -> int:
        with self.connection.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)

    def close(self) -> None:
        self.publisher.close()
        with self.connection.channel() as channel:
            for queue in ("default", "slow"):
                work = self.topology.work_queue_names(queue)
                delays = [
                    f"{name}.delay.{ms}.{turn}"
                    for name in work
                    for ms in self.rungs
                    for turn in range(4)
                ]
                for name in (*work, self.topology.dead_letter_queue_name(queue), *delays):
                    channel.queue_delete(name)
            for exchange in self.topology.exchanges():
                channel.exchange_delete(exchange.name)
        self.connection.close()


@pytest.fixture(params=["inproc", "rabbitmq"])
def broker(request: pytest.FixtureRequest, services: Services) -> Iterator[Broker]:
    inproc.register()
    url = "inproc://" if request.param == "inproc" else services.amqp_url
    name = f"taskyard-test-{secrets.token_hex(4)}"
    settings = CelerySettings(
        broker_url=SecretStr(url), namespace=name, queue_prefix=f"{name}.", delivery_limit=2
    )
    connection = connections.open_connection(url, timeout_seconds=5)
    topology = Topology.of(settings)
    connections.declare(connection, topology, ["default"])
    opened = Broker(settings, connection, topology, Publisher(settings))
    try:
        yield opened
    finally:
        opened.close()
