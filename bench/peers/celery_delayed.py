"""Celery's native delayed delivery, which is what it has for delays on quorum queues.

The worker declares its 28 levels of queues and exchanges when it starts; from then on `countdown`
sends a message through them. All else is as in `celery_redis`, without results.
"""

import time
from typing import Any

from kombu.transport.native_delayed_delivery import (
    CELERY_DELAYED_DELIVERY_EXCHANGE,
    MAX_NUMBER_OF_BITS_TO_USE,
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
    level_name,
)

from bench.peers.adapter import Adapter
from bench.peers.celery_redis import CeleryAdapter, create
from bench.peers.tally import stamp, tick

_LEVELS = MAX_NUMBER_OF_BITS_TO_USE
app = create("celery-delayed", None)


@app.task(name="nothing")
def nothing() -> None:
    tick()


@app.task(name="stamped")
def stamped(sent_ns: int) -> None:
    stamp(sent_ns)


class Delayed(CeleryAdapter):
    """The levels are declared here as the worker would, since tasks are sent before it starts."""

    def prepare(self) -> None:
        super().prepare()
        with self._app.connection_for_write() as connection:
            declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
            for queue in self._app.amqp.queues.values():
                bind_queue_to_native_delayed_delivery_exchange(connection, queue)

    def delay(self, count: int, low: float, high: float) -> None:
        for number in range(count):
            seconds = low + (high - low) * number / count
            due_ns = time.monotonic_ns() + round(seconds * 1e9)
            self._stamped.apply_async((due_ns,), countdown=seconds)
        # Unconfirmed messages may still stand before the broker's door. It takes what comes on a
        # channel in order, so that its answer tells that they are in.
        queue = next(iter(self._app.amqp.queues.values()))
        with self._app.producer_pool.acquire() as producer:
            channel: Any = producer.channel
            queue(channel).queue_declare(passive=True)

    def clear(self) -> None:
        super().clear()
        with self._app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            for level in range(_LEVELS):
                channel.queue_purge(level_name(level))

    def remove(self) -> None:
        super().remove()
        with self._app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            for level in range(_LEVELS):
                channel.queue_delete(level_name(level))
                channel.exchange_delete(level_name(level))
            channel.exchange_delete(CELERY_DELAYED_DELIVERY_EXCHANGE)


def open_adapter() -> Adapter:
    return Delayed("bench.peers.celery_delayed", app, nothing, stamped)
