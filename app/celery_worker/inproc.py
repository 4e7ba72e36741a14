"""The Kombu transport `inproc://`: API, worker and beat in one process, the same topology.

Nothing here survives the process. That is enough, because the row is the truth: at the next
start the sweeper sends again what is still waiting.
"""

import socket
import time
from collections.abc import Callable
from typing import Any

from amqp.exceptions import NotFound, PreconditionFailed
from amqp.protocol import queue_declare_ok_t
from kombu.transport import TRANSPORT_ALIASES, base, virtual

from app.celery_worker.inproc_broker import ArgumentsDiffer, BrokerQueue, InprocBroker, Raw
from app.common.errors import ConfigurationError

SCHEME = "inproc"

_broker = InprocBroker()
_allowed = False


class InprocOutsideOneProcess(ConfigurationError):
    """The in-process broker is set, but this process has no worker of its own."""

    code = "INPROC_BROKER_NOT_SHARED"
    title = "The in-process broker reaches no other process"


def register() -> None:
    """Make `inproc://` usable in this process; called by what runs API and worker together."""
    global _allowed  # noqa: PLW0603 - the registry that it goes with is one per process as well
    TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"
    _allowed = True


def is_inproc(url: str) -> bool:
    return url.startswith(f"{SCHEME}:")


def check_allowed(url: str) -> None:
    """Raise InprocOutsideOneProcess when a process without its own worker meets `inproc://`."""
    if is_inproc(url) and not _allowed:
        raise InprocOutsideOneProcess(
            "celery.broker_url is `inproc://`, which works only while API, worker and beat are one process.",
            hint="Run `taskyard dev`, or set TASKYARD_CELERY__BROKER_URL to an amqp:// URL for separate processes.",
        )


def broker() -> InprocBroker:
    """Return the broker of this process."""
    return _broker


class QoS(virtual.QoS):
    """What this channel has delivered and not settled; acknowledged from any thread."""

    def __init__(self, channel: "Channel", prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        # Messages are given back when the channel closes; at the interpreter's end there is
        # nobody left to give them to.
        self._on_collect.cancel()
        self._deliveries: dict[str, tuple[BrokerQueue, Raw]] = {}

    def can_consume(self) -> bool:
        return not self.prefetch_count or len(self._deliveries) < self.prefetch_count

    def deliver(self, tag: str, queue: BrokerQueue, raw: Raw) -> None:
        self._deliveries[tag] = queue, raw

    def append(self, message: Any, delivery_tag: str) -> None:
        """Nothing to do: the delivery was noted when the message was taken from its queue."""

    def ack(self, delivery_tag: str) -> None:
        if taken := self._deliveries.pop(delivery_tag, None):
            _broker.settle(taken[0])

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        if taken := self._deliveries.pop(delivery_tag, None):
            (_broker.give_back if requeue else _broker.refuse)(*taken)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        for tag in reversed(list(self._deliveries)):
            self.reject(tag, requeue=True)


class Channel(virtual.Channel):
    """A channel on the process's broker, with confirms and returns as RabbitMQ sends them."""

    QoS = QoS
    body_encoding = None  # type: ignore[assignment]  # bytes stay bytes; base64 is for stores of text

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.events: dict[str, set[Callable[..., object]]] = {
            "basic_return": set(),
            "basic_ack": set(),
            "basic_nack": set(),
        }
        self._published: int | None = None
        self._urgency: dict[str, int] = {}

    def confirm_select(self) -> None:
        self._published = 0

    def basic_publish(  # type: ignore[override]  # kombu's stub knows no mandatory
        self,
        message: Raw,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        **_: Any,  # noqa: FBT001, FBT002
    ) -> None:
        if exchange and exchange not in _broker.exchanges:
            raise NotFound(f"NOT_FOUND - no exchange '{exchange}'", (60, 40), "Basic.publish", 404)
        # A copy: the broker writes death and delivery headers into what it keeps.
        message = {**message, "headers": dict(message["headers"])}
        self._inplace_augment_message(message, exchange, routing_key)
        if not _broker.publish(exchange, routing_key, message) and mandatory:
            returned = self.message_to_python(message)
            for handler in list(self.events["basic_return"]):
                handler(PreconditionFailed("NO_ROUTE"), exchange, routing_key, returned)
        if self._published is not None:
            self._published += 1
            for handler in list(self.events["basic_ack"]):
                handler(self._published, False)  # noqa: FBT003 - py-amqp's call: tag, multiple

    def exchange_declare(
        self, exchange: str, type: str = "direct", passive: bool = False, **kwargs: Any
    ) -> None:  # type: ignore[override]  # noqa: A002, FBT001, FBT002
        if passive:
            if exchange not in _broker.exchanges:
                raise NotFound(
                    f"NOT_FOUND - no exchange '{exchange}'", (40, 10), "Exchange.declare", 404
                )
            return
        try:
            _broker.declare_exchange(exchange, type, dict(kwargs.get("arguments") or {}))
        except ArgumentsDiffer as error:
            raise PreconditionFailed(str(error), (40, 10), "Exchange.declare", 406) from error

    def exchange_delete(self, exchange: str, **_: Any) -> None:
        _broker.delete_exchange(exchange)

    def queue_declare(
        self, queue: str = "", passive: bool = False, arguments: Any = None, **_: Any
    ) -> queue_declare_ok_t:  # type: ignore[override]  # noqa: FBT001, FBT002
        if not passive:
            try:
                _broker.declare_queue(queue, dict(arguments or {}))
            except ArgumentsDiffer as error:
                raise PreconditionFailed(str(error), (50, 10), "Queue.declare", 406) from error
        elif queue not in _broker.queues:
            raise NotFound(f"NOT_FOUND - no queue '{queue}'", (50, 10), "Queue.declare", 404)
        return queue_declare_ok_t(queue, _broker.size(queue), 0)

    def queue_bind(self, queue: str, exchange: str = "", routing_key: str = "", **_: Any) -> None:  # type: ignore[override]
        _broker.bind(queue, exchange, routing_key)

    def queue_unbind(self, queue: str, exchange: str = "", routing_key: str = "", **_: Any) -> None:  # type: ignore[override]
        _broker.unbind(queue, exchange, routing_key)

    def queue_delete(self, queue: str, **_: Any) -> int:  # type: ignore[override]
        return _broker.delete_queue(queue)

    def _size(self, queue: str) -> int:
        return _broker.size(queue)

    def _purge(self, queue: str) -> int:
        return _broker.purge(queue)

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Any:  # type: ignore[override]  # noqa: FBT001, FBT002
        raw = self.take([queue], no_ack=no_ack)
        return None if raw is None else self.Message(raw[1], channel=self)

    def take(self, names: list[str], *, no_ack: bool = False) -> tuple[str, Raw] | None:
        """Take one message for a consumer or a get; return its queue's name and the message."""
        taken = _broker.take(names)
        if taken is None:
            return None
        queue, raw = taken
        tag = self._next_delivery_tag()
        raw["properties"]["delivery_tag"] = tag
        if no_ack:
            _broker.settle(queue)
        else:
            self.qos.deliver(tag, queue, raw)
        return queue.name, raw

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        super().basic_consume(queue, *args, **kwargs)
        self._urgency[queue] = (kwargs.get("arguments") or {}).get("x-priority", 0)

    def next_delivery(self) -> tuple[str, Raw] | None:
        """Return the next message for this channel's consumers within its prefetch, or None."""
        if not self._active_queues or not self.qos.can_consume():
            return None
        taken = self.take(sorted(self._active_queues, key=lambda name: -self._urgency.get(name, 0)))
        if taken is not None:
            # The queue that gave goes to the end, so that a busy one cannot starve its equals.
            self._active_queues.remove(taken[0])
            self._active_queues.append(taken[0])
        return taken

    def close(self) -> None:
        super().close()
        _broker.interrupt()


class Transport(virtual.Transport):
    """Connections inside this process; a drain sleeps until there is something to deliver."""

    Channel = Channel
    driver_type = SCHEME
    driver_name = SCHEME
    # The errors of RabbitMQ's client: the code above speaks one language to both.
    channel_errors = (*virtual.Transport.channel_errors, PreconditionFailed, NotFound)
    implements = base.Transport.implements.extend(
        asynchronous=False, exchange_type=frozenset(["direct", "topic", "fanout"]), heartbeats=False
    )

    def driver_version(self) -> str:
        return "1"

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:
        """Deliver one message; socket.timeout when none comes in time or the drain is interrupted."""
        delivery = self._await_delivery(timeout)
        if delivery is None:
            raise TimeoutError("no message in time")
        queue, raw = delivery
        self._deliver(raw, queue)

    def _await_delivery(self, timeout: float | None) -> tuple[str, Raw] | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        with _broker.changed:
            interrupts = _broker.interrupts
            while True:
                for channel in list(self.channels or ()):
                    if delivery := channel.next_delivery():
                        return delivery
                left = None if deadline is None else deadline - time.monotonic()
                if (left is not None and left <= 0) or _broker.interrupts != interrupts:
                    return None
                next_delay = _broker.seconds_to_next_delay()
                _broker.changed.wait(
                    min((s for s in (left, next_delay) if s is not None), default=None)
                )


# `socket.timeout` is what Celery's loop catches; since Python 3.10 it is TimeoutError itself.
assert socket.timeout is TimeoutError  # noqa: S101 - a fact about the interpreter, checked once
