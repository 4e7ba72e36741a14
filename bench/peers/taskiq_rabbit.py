"""taskiq on RabbitMQ by taskiq-aio-pika; it keeps no history.

Fair settings: its own default of a quorum queue, acknowledged when executed, 32 messages per
process ahead (measured best), two processes on uvloop, publishing with confirms (its default).
"""

import asyncio
import os
import time
from collections.abc import Sequence

from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.exchange import Exchange
from taskiq_aio_pika.queue import Queue

from bench.peers.adapter import AMQP_URL, PROCESSES, Adapter, name_of, tool
from bench.peers.tally import stamp, tick

_AHEAD = 32
_AT_ONCE = 50
_NAME = name_of("taskiq")
broker = AioPikaBroker(
    # The producer's loop runs only while it sends; heartbeats would end its connection meanwhile.
    f"{os.environ[AMQP_URL]}?heartbeat=0",
    qos=_AHEAD,
    exchange=Exchange(name=_NAME),
    task_queues=[Queue(name=_NAME, routing_key=_NAME)],
    dead_letter_queue=Queue(name=f"{_NAME}.dead"),
    delay_queue=Queue(name=f"{_NAME}.delay"),
)


@broker.task(task_name="nothing", queue_name=_NAME)
async def nothing() -> None:
    tick()


@broker.task(task_name="stamped", queue_name=_NAME)
async def stamped(sent_ns: int) -> None:
    stamp(sent_ns)


class Taskiq(Adapter):
    """One producer on one loop."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def worker(self, profile: str) -> Sequence[str]:
        del profile
        return [
            *(tool("taskiq"), "worker", "bench.peers.taskiq_rabbit:broker"),
            *("--workers", str(PROCESSES), "--max-async-tasks", str(_AHEAD)),
            *("--ack-type", "when_executed", "--log-level", "WARNING"),
        ]

    def prepare(self) -> None:
        self._runner.run(broker.startup())

    def fill(self, count: int) -> None:
        self._runner.run(self._send(count))

    async def _send(self, count: int) -> None:
        for start in range(0, count, _AT_ONCE):
            batch = min(_AT_ONCE, count - start)
            await asyncio.gather(*(nothing.kiq() for _ in range(batch)))

    def stamped(self) -> None:
        self._runner.run(stamped.kiq(time.monotonic_ns()))

    def clear(self) -> None:
        self._runner.run(self._each("purge"))

    def remove(self) -> None:
        self._runner.run(self._each("delete"))
        self._runner.run(broker.shutdown())

    async def _each(self, action: str) -> None:
        channel = broker.write_channel
        for name in (_NAME, f"{_NAME}.dead", f"{_NAME}.delay"):
            if action == "purge":
                await (await channel.get_queue(name)).purge()
            else:
                await channel.queue_delete(name)
        if action == "delete":
            await channel.exchange_delete(_NAME)


def open_adapter() -> Adapter:
    return Taskiq()
