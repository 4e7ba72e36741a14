"""The Kombu transport `inproc://`: API, worker and beat in one process, the same topology.

Nothing here survives the process. That is enough, because the row is the truth: at the next
start the sweeper sends again what is still waiting.
"""

import socket
import time
from collections.abc import Callable
from typing import Any, cast

from amqp.exceptions import NotFound, PreconditionFailed
from amqp.protocol import queue_declare_ok_t
from kombu.transport import TRANSPORT_ALIASES, base, virtual

from app.celery_worker.inproc_broker import ArgumentsDiffer, BrokerQueue, InprocBroker, Raw
from app.celery_worker.slots import PATIENCE
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
            "celery.broker_url is `inproc://`, which joins the parts of one process only.",
            hint="Run `taskyard dev`, or set TASKYARD_CELERY__BROKER_URL to an amqp:// URL.",
        )


def broker() -> InprocBroker:
    """Return the broker of this process."""
    return _broker


class Deliveries(virtual.QoS):
    """What this channel has delivered and not settled; acknowledged from any thread."""

    def __init__(self, channel: "Channel", prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        # Messages are given back when the channel closes; at the interpreter's end there is
        # nobody left to give them to.
        self._on_collect.cancel()  # type: ignore[attr-defined]  # the stubs do not know it
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

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ARG002 - kombu's signature
        for tag in reversed(list(self._deliveries)):
            self.reject(tag, requeue=True)


class Channel(virtual.Channel):
    """A channel on the process's broker, with confirms and returns as RabbitMQ sends them."""

    QoS = Deliveries
    body_encoding = None  # type: ignore[assignment]  # bytes stay bytes; base64 is for stores of text

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        names = ("basic_return", "basic_ack", "basic_nack")
        self.events: dict[str, set[Callable[..., object]]] = {name: set() for name in names}
        self._published: int | None = None
        self._urgency: dict[str, int] = {}
        self._passed_over: dict[str, int] = {}

    def confirm_select(self) -> None:
        self._published = 0

    def basic_publish(self, message: Raw, exchange: str, routing_key: str, **options: Any) -> None:
        if exchange and exchange not in _broker.exchanges:
            raise NotFound(f"NOT_FOUND - no exchange '{exchange}'", (60, 40), "Basic.publish", 404)
        # A copy: the broker writes death and delivery headers into what it keeps.
        message = {**message, "headers": dict(message["headers"])}
        self._inplace_augment_message(message, exchange, routing_key)
        if not _broker.publish(exchange, routing_key, message) and options.get("mandatory"):
            returned = self.message_to_python(message)
            self._tell("basic_return", NotFound("NO_ROUTE"), exchange, routing_key, returned)
        if self._published is not None:
            self._published += 1
            self._tell("basic_ack", self._published, False)  # noqa: FBT003 - py-amqp's call: tag, multiple

    def exchange_declare(self, exchange: str, type: str = "direct", **options: Any) -> None:  # type: ignore[override]  # noqa: A002 - kombu's names; its positional flags are never used
        if options.get("passive"):
            if exchange not in _broker.exchanges:
                raise NotFound(
                    f"NOT_FOUND - no exchange '{exchange}'", method_name="Exchange.declare"
                )
            return
        try:
            _broker.declare_exchange(exchange, type, dict(options.get("arguments") or {}))
        except ArgumentsDiffer as error:
            raise PreconditionFailed(str(error), method_name="Exchange.declare") from error

    def exchange_delete(self, exchange: str, *_: Any, **__: Any) -> None:
        _broker.delete_exchange(exchange)

    def queue_declare(self, queue: str, **options: Any) -> queue_declare_ok_t:  # type: ignore[override]  # a queue has a name here
        if not options.get("passive"):
            try:
                _broker.declare_queue(queue, dict(options.get("arguments") or {}))
            except ArgumentsDiffer as error:
                raise PreconditionFailed(str(error), method_name="Queue.declare") from error
        elif queue not in _broker.queues:
            raise NotFound(f"NOT_FOUND - no queue '{queue}'", method_name="Queue.declare")
        return queue_declare_ok_t(queue, _broker.size(queue), _broker.consumers[queue])

    def queue_bind(self, queue: str, exchange: str = "", routing_key: str = "", **_: Any) -> None:  # type: ignore[override]  # as above
        _broker.bind(queue, exchange, routing_key)

    def queue_unbind(self, queue: str, exchange: str = "", routing_key: str = "", **_: Any) -> None:  # type: ignore[override]  # as above
        _broker.unbind(queue, exchange, routing_key)

    def queue_delete(self, queue: str, **_: Any) -> int:  # type: ignore[override]  # RabbitMQ's answer, which kombu drops
        return _broker.delete_queue(queue)

    def basic_get(self, queue: str, **options: Any) -> Any:  # type: ignore[override]  # as above
        taken = self.take([queue], no_ack=bool(options.get("no_ack")))
        return None if taken is None else self.Message(taken[1], channel=self)

    def basic_consume(
        self,
        queue: str,
        no_ack: bool,  # noqa: FBT001 - kombu's signature
        callback: Any,
        consumer_tag: str | None,
        **kwargs: Any,
    ) -> str:
        super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        _broker.consumers[queue] += 1
        self._urgency[queue] = (kwargs.get("arguments") or {}).get("x-priority", 0)
        return consumer_tag or ""

    def basic_cancel(self, consumer_tag: str) -> None:
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is not None:
            _broker.consumers[queue] -= 1

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
            self.own_qos.deliver(tag, queue, raw)
        return queue.name, raw

    def next_delivery(self) -> tuple[str, Raw] | None:
        """Return the next message for this channel's consumers within its prefetch, or None."""
        if not self._active_queues or not self.own_qos.can_consume():
            return None
        taken = self.take(sorted(self._active_queues, key=self._rank))
        if taken is not None:
            self._note_turn(taken[0])
        return taken

    def _rank(self, queue: str) -> tuple[bool, int]:
        """Return the place of a queue: one that was passed over too often, then the urgent ones."""
        return self._passed_over.get(queue, 0) < PATIENCE, -self._urgency.get(queue, 0)

    def _note_turn(self, queue: str) -> None:
        for other in self._active_queues:
            if other != queue and _broker.size(other):
                self._passed_over[other] = self._passed_over.get(other, 0) + 1
        self._passed_over[queue] = 0
        # The queue that gave goes to the end, so that a busy one cannot starve its equals.
        self._active_queues.remove(queue)
        self._active_queues.append(queue)

    @property
    def own_qos(self) -> Deliveries:
        return cast("Deliveries", self.qos)

    def close(self) -> None:
        super().close()
        _broker.interrupt()

    def _size(self, queue: str) -> int:
        return _broker.size(queue)

    def _purge(self, queue: str) -> int:
        return _broker.purge(queue)

    def _tell(self, event: str, *facts: object) -> None:
        for handler in list(self.events[event]):
            handler(*facts)


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

    @property
    def default_connection_params(self) -> dict[str, Any]:
        """Nothing: kombu would warn that it takes `localhost` for a host that nobody named."""
        return {}

    def driver_version(self) -> str:
        return "1"

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:  # noqa: ARG002 - kombu's signature
        """Deliver one message; TimeoutError when none comes in time or something interrupts."""
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
                for channel in cast("list[Channel]", list(self.channels or ())):
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
