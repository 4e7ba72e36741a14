"""streaQ: jobs and results in Redis, whose durability is that of its append-only file.

Fair settings: two worker processes with 16 tasks at once each (its default), a thousand tasks
enqueued at once in one pipeline.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from streaq import Worker

from bench.peers.adapter import REDIS_URL, Adapter, name_of, one_each, tool
from bench.peers.tally import stamp, tick

_AT_ONCE = 16
_BATCH = 1000
worker: Worker[None] = Worker(
    redis_url=os.environ[REDIS_URL], queue_name=name_of("streaq"), concurrency=_AT_ONCE
)


@worker.task(name="nothing")
async def nothing() -> None:
    tick()


@worker.task(name="stamped")
async def stamped(sent_ns: int) -> None:
    stamp(sent_ns)


class Streaq(Adapter):
    """One producer on one loop. An outcome is a result key, kept for five minutes."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._redis: Any = redis.Redis.from_url(os.environ[REDIS_URL])

    def worker(self, profile: str) -> Sequence[str]:
        del profile
        # Told to make two processes, it does not pass its end on to them.
        return one_each([tool("streaq"), "run", "bench.peers.streaq_redis:worker"])

    def prepare(self) -> None:
        self._redis.ping()

    def fill(self, count: int) -> None:
        self._runner.run(self._send(count))

    async def _send(self, count: int) -> None:
        async with worker:
            for start in range(0, count, _BATCH):
                batch = min(_BATCH, count - start)
                await worker.enqueue_many([nothing.enqueue() for _ in range(batch)])

    def stamped(self) -> None:
        self._runner.run(self._stamp())

    async def _stamp(self) -> None:
        async with worker:
            await stamped.enqueue(time.monotonic_ns())

    def outcomes(self) -> int:
        return sum(1 for _ in self._keys(":results:"))

    def clear(self) -> None:
        for key in self._keys(""):
            self._redis.delete(key)

    def remove(self) -> None:
        self.clear()

    def _keys(self, kind: str) -> Iterator[bytes]:
        yield from self._redis.scan_iter(f"*{name_of('streaq')}*{kind}*", count=5000)


def open_adapter() -> Adapter:
    return Streaq()
