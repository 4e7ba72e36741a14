"""dramatiq on RabbitMQ; it keeps no history.

Fair settings: two processes of eight threads (its default), its default middleware without the
metrics server, publishing without confirms (its default), acknowledged after the run.
"""

import os
import time
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from bench.peers.adapter import AMQP_URL, PROCESSES, Adapter, name_of, tool
from bench.peers.tally import stamp, tick

_NAME = name_of("dramatiq")
_THREADS = 8
broker = RabbitmqBroker(url=os.environ[AMQP_URL])
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=_NAME)
def nothing() -> None:
    tick()


@dramatiq.actor(queue_name=_NAME)
def stamped(sent_ns: int) -> None:
    stamp(sent_ns)


class Dramatiq(Adapter):
    """One producer."""

    def worker(self, profile: str) -> Sequence[str]:
        del profile
        return [
            *(tool("dramatiq"), "bench.peers.dramatiq_rabbit", "--processes", str(PROCESSES)),
            *("--threads", str(_THREADS), "--queues", _NAME),
        ]

    def prepare(self) -> None:
        broker.declare_queue(_NAME, ensure=True)

    def fill(self, count: int) -> None:
        for _ in range(count):
            nothing.send()

    def stamped(self) -> None:
        stamped.send(time.monotonic_ns())

    def clear(self) -> None:
        broker.flush(_NAME)

    def remove(self) -> None:
        for name in (_NAME, f"{_NAME}.DQ", f"{_NAME}.XQ"):
            broker.channel.queue_delete(name)


def open_adapter() -> Adapter:
    return Dramatiq()
