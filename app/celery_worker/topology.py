"""What we declare on the broker, as pure data: exchanges, work queues, dead letters, delays.

The figures behind the arguments (why quorum, why at-least-once needs reject-publish, why the
dead-letter queue comes first) were measured on RabbitMQ 3.10; see docs/decisions.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from app.celery_worker.delays import rung_for
from app.config.settings import CelerySettings

HIGH_PRIORITY: Final = 7
LOW_PRIORITY: Final = 2

# RabbitMQ counts a queue with an expiry as unused from its declaration on: neither a publish nor
# (for a quorum queue, measured on 3.10.8) a second declaration renews it, and it takes its
# messages with it. So a delay queue takes messages during one window of time only, lives long
# enough to let the last of them out, and the next window uses the next of four names. Four names
# are enough for a name to have expired before its turn comes again.
_WINDOW_SECONDS: Final = 600
_EXPIRY_MARGIN_SECONDS: Final = 60
_WINDOW_NAMES: Final = 4

# A dead-letter queue has no dead-letter queue of its own: at RabbitMQ 4's default limit of 20
# returns a dead letter would be dropped for good.
_DEAD_LETTER_DELIVERY_LIMIT: Final = 1_000_000

Arguments = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class ExchangeSpec:
    """A durable exchange to declare."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A durable quorum queue to declare, and the one binding that it has."""

    name: str
    exchange: str
    routing_key: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Topology:
    """The names and arguments of everything on the broker, from three settings."""

    namespace: str
    queue_prefix: str
    delivery_limit: int

    @classmethod
    def of(cls, settings: CelerySettings) -> "Topology":
        return cls(settings.namespace, settings.queue_prefix, settings.delivery_limit)

    @property
    def exchange(self) -> str:
        return self.namespace

    @property
    def dead_letter_exchange(self) -> str:
        return f"{self.namespace}.dlx"

    @property
    def events_exchange(self) -> str:
        return f"{self.namespace}.events"

    def exchanges(self) -> tuple[ExchangeSpec, ...]:
        return (
            ExchangeSpec(self.dead_letter_exchange, "direct"),
            ExchangeSpec(self.exchange, "direct"),
            ExchangeSpec(self.events_exchange, "topic"),
        )

    def broker_queue(self, queue_class: str, priority: int) -> str:
        """Return the queue of a class that takes a priority of 0 to 9."""
        name = f"{self.queue_prefix}{queue_class}"
        if priority >= HIGH_PRIORITY:
            return f"{name}.high"
        return f"{name}.low" if priority <= LOW_PRIORITY else name

    def read_queue(self, broker_queue: str) -> tuple[str, int]:
        """Return the class of a work queue and a priority that leads to it again."""
        name = broker_queue.removeprefix(self.queue_prefix)
        for suffix, priority in ((".high", HIGH_PRIORITY), (".low", LOW_PRIORITY)):
            if name.endswith(suffix):
                return name.removesuffix(suffix), priority
        return name, (HIGH_PRIORITY + LOW_PRIORITY) // 2

    def work_queue_names(self, queue_class: str) -> tuple[str, str, str]:
        """Return the three queues of a class, the most urgent first."""
        name = f"{self.queue_prefix}{queue_class}"
        return f"{name}.high", name, f"{name}.low"

    def dead_letter_queue_name(self, queue_class: str) -> str:
        return f"{self.queue_prefix}{queue_class}.dlq"

    def queues(self, queue_class: str) -> Iterator[QueueSpec]:
        """Yield the queues of a class in the order in which they must be declared."""
        dead_letters = self.dead_letter_queue_name(queue_class)
        # First: what is rejected before its dead-letter queue exists waits minutes for the
        # broker's next attempt, or is lost when the strategy is at-most-once.
        yield QueueSpec(
            dead_letters,
            self.dead_letter_exchange,
            dead_letters,
            {"x-queue-type": "quorum", "x-delivery-limit": _DEAD_LETTER_DELIVERY_LIMIT},
        )
        for name in self.work_queue_names(queue_class):
            yield QueueSpec(
                name,
                self.exchange,
                name,
                {
                    **_dead_letter_to(self.dead_letter_exchange, dead_letters),
                    "x-delivery-limit": self.delivery_limit,
                },
            )

    def delay_queue(self, broker_queue: str, delay_seconds: float, now: float) -> QueueSpec:
        """Return the queue that holds a message back from `broker_queue`; `now` is a Unix time."""
        ttl_ms = rung_for(delay_seconds)
        window = max(_WINDOW_SECONDS, ttl_ms / 1000)
        turn = int(now / window) % _WINDOW_NAMES
        name = f"{broker_queue}.delay.{ttl_ms}.{turn}"
        expires_ms = ttl_ms + round((window + _EXPIRY_MARGIN_SECONDS) * 1000)
        return QueueSpec(
            name,
            self.exchange,
            name,
            {
                **_dead_letter_to(self.exchange, broker_queue),
                "x-message-ttl": ttl_ms,
                "x-expires": expires_ms,
            },
        )


def _dead_letter_to(exchange: str, routing_key: str) -> dict[str, str | int]:
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": routing_key,
        # Without reject-publish RabbitMQ falls back to at-most-once and says so in its log only.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def without_death_history(headers: Mapping[str, object]) -> dict[str, object]:
    """Return headers fit for another round: RabbitMQ drops a message that it has seen go round."""
    return {name: value for name, value in headers.items() if not name.startswith(_DEATH_HEADERS)}


_DEATH_HEADERS: Final = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")


def all_queues(topology: Topology, classes: Iterable[str]) -> Iterator[QueueSpec]:
    """Yield the queues of several classes in the order in which they must be declared."""
    for queue_class in classes:
        yield from topology.queues(queue_class)
