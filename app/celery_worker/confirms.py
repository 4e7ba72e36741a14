"""One AMQP channel in confirm mode: what was published on it, confirmed, refused, returned."""

import time
from dataclasses import dataclass, field
from typing import Any, Final

from amqp.exceptions import AMQPError
from kombu import Connection
from kombu.exceptions import KombuError

from app.celery_worker import messages
from app.celery_worker.topology import QueueSpec

# Everything that a broker, a network or a half-closed connection raises. AttributeError is
# py-amqp's own answer to a socket that closed between two of its lines.
BROKER_TROUBLE: Final = (AMQPError, KombuError, OSError, AttributeError)


@dataclass(frozen=True, slots=True)
class Letter:
    """One message on its way: where it goes and what has to exist there."""

    run_id: str
    exchange: str
    routing_key: str
    headers: dict[str, object]
    queue_class: str
    delay_queue: QueueSpec | None = None


@dataclass(slots=True)
class ConfirmChannel:
    """An open channel in confirm mode, and what the broker has said on it."""

    connection: Connection
    channel: Any
    published: int = 0
    outstanding: dict[int, str] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    returned: set[str] = field(default_factory=set)
    declared: set[str] = field(default_factory=set)

    def listen(self) -> None:
        self.channel.confirm_select()
        self.channel.events["basic_ack"].add(self._on_ack)
        self.channel.events["basic_nack"].add(self._on_nack)
        self.channel.events["basic_return"].add(self._on_return)

    def _on_ack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - py-amqp's call
        self.confirmed.update(self._settle(tag, multiple=multiple))

    def _on_nack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - py-amqp's call
        self._settle(tag, multiple=multiple)

    def _settle(self, tag: int, *, multiple: bool) -> list[str]:
        tags = [known for known in self.outstanding if known <= tag] if multiple else [tag]
        return [self.outstanding.pop(known) for known in tags if known in self.outstanding]

    def _on_return(
        self, _error: Exception, _exchange: str, _routing_key: str, message: Any
    ) -> None:
        # The broker confirms a message that it has returned, so the return has the last word.
        self.returned.add(str(message.properties.get("correlation_id")))

    def publish(self, letter: Letter, deadline: float) -> None:
        message = self.channel.prepare_message(
            messages.BODY,
            content_type=messages.CONTENT_TYPE,
            content_encoding=messages.CONTENT_ENCODING,
            headers=letter.headers,
            properties={"delivery_mode": 2, "correlation_id": letter.run_id},
        )
        self.published += 1
        self.outstanding[self.published] = letter.run_id
        self.channel.basic_publish(
            message,
            exchange=letter.exchange,
            routing_key=letter.routing_key,
            mandatory=True,
            timeout=seconds_left(deadline),
        )

    def forget_answers(self) -> None:
        """Start a new round: what was confirmed or returned before has been reported."""
        self.outstanding.clear()
        self.confirmed.clear()
        self.returned.clear()

    def sent(self) -> set[str]:
        """Return the run ids of this round that are on a queue, as far as the broker has said."""
        if self.returned:
            # A queue of ours is gone; the next letter for it declares it again.
            self.declared.clear()
        return self.confirmed - self.returned

    def await_confirms(self, deadline: float) -> None:
        while self.outstanding:
            self.connection.drain_events(timeout=seconds_left(deadline))


def seconds_left(deadline: float) -> float:
    """Return the seconds until a monotonic deadline; TimeoutError when it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the broker did not answer in time")
    return left
