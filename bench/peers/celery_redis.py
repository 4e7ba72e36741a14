"""Celery as many run it: RabbitMQ as the broker, results in Redis, a prefork worker.

Fair settings: a quorum queue and late acknowledgements, as durable as ours; 16 messages per
process ahead, which measured best; no events, no gossip, no mingle; publishing without confirms,
which is the default and the fastest.
"""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from bench.peers.adapter import (
    AMQP_URL,
    PREFETCH,
    PROCESSES,
    REDIS_URL,
    Adapter,
    name_of,
    tool,
)
from bench.peers.tally import stamp, tick


def create(name: str, backend: str | None) -> Celery:
    """Return an app whose only queue bears the name."""
    app = Celery(name, broker=os.environ[AMQP_URL], backend=backend, set_as_current=False)
    queue = name_of(name)
    app.conf.update(
        task_default_queue=queue,
        task_queues=[
            Queue(
                queue,
                Exchange(queue, type="topic"),
                routing_key=queue,
                queue_arguments={"x-queue-type": "quorum"},
            )
        ],
        task_default_exchange=queue,
        task_default_exchange_type="topic",
        task_default_routing_key=queue,
        task_acks_late=True,
        task_ignore_result=backend is None,
        worker_prefetch_multiplier=PREFETCH // PROCESSES,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        result_expires=3600,
        result_backend_transport_options={"global_keyprefix": queue},
    )
    return app


class CeleryAdapter(Adapter):
    """What every variant of Celery has in common."""

    def __init__(self, module: str, app: Celery, nothing: Any, stamped: Any) -> None:
        self._module, self._app, self._nothing, self._stamped = module, app, nothing, stamped

    def worker(self, profile: str) -> Sequence[str]:
        del profile
        return [
            *(tool("celery"), "-A", f"{self._module}:app", "worker", "--pool", "prefork"),
            *("--concurrency", str(PROCESSES), "--loglevel", "WARNING"),
            *("--without-gossip", "--without-mingle"),
            # Two workers of one name would take each other's control queue.
            *("--hostname", f"{name_of('worker')}@%h"),
        ]

    def prepare(self) -> None:
        with self._app.connection_for_write() as connection:
            for queue in self._app.amqp.queues.values():
                queue(connection.default_channel).declare()

    def fill(self, count: int) -> None:
        for _ in range(count):
            self._nothing.apply_async()

    def stamped(self) -> None:
        self._stamped.apply_async((time.monotonic_ns(),))

    def clear(self) -> None:
        with self._app.connection_for_write() as connection:
            for queue in self._app.amqp.queues.values():
                queue(connection.default_channel).purge()

    def remove(self) -> None:
        with self._app.connection_for_write() as connection:
            for queue in self._app.amqp.queues.values():
                bound = queue(connection.default_channel)
                bound.delete()
                bound.exchange.delete()


class WithRedis(CeleryAdapter):
    """Results in Redis: an outcome is a key of the result back end."""

    def outcomes(self) -> int:
        return sum(1 for _ in self._keys())

    def clear(self) -> None:
        super().clear()
        backend: Any = self._app.backend
        for key in self._keys():
            backend.client.delete(key)

    def _keys(self) -> Iterator[bytes]:
        backend: Any = self._app.backend
        yield from backend.client.scan_iter(f"{name_of('celery-redis')}*", count=5000)


app = create("celery-redis", os.environ[REDIS_URL])


@app.task(name="nothing")
def nothing() -> None:
    tick()


@app.task(name="stamped")
def stamped(sent_ns: int) -> None:
    stamp(sent_ns)


def open_adapter() -> Adapter:
    return WithRedis("bench.peers.celery_redis", app, nothing, stamped)
