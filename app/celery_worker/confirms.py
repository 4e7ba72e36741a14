"""One AMQP channel in confirm mode: what was published on it, confirmed, refused, returned."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from amqp.exceptions import AMQPError, RecoverableConnectionError
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from amqp.spec import Basic
from kombu import Connection
from kombu.exceptions import KombuError

from app.celery_worker import messages
from app.celery_worker.topology import QueueSpec

# Everything that a broker, a network or a half-closed connection raises. AttributeError is
# py-amqp's own answer to a socket that closed between two of its lines.
BROKER_TROUBLE: Final = (AMQPError, KombuError, OSError, AttributeError)
# The type of a frame that a method begins.
_METHOD: Final = 1


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
class _Gathered:
    """Stands in for a socket: keeps the frames that py-amqp makes."""

    frames: list[bytes] = field(default_factory=list)

    def write(self, frame: bytes | memoryview) -> None:
        # A copy: it is a view of a buffer that the next frame is written into.
        self.frames.append(bytes(frame))


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

    def publish(self, letters: Sequence[Letter], deadline: float) -> None:
        """Publish letters whose queues are there; over a socket they are written at once."""
        if hasattr(self.channel, "send_method"):
            self._write_together([(one, self._message(one)) for one in letters], deadline)
        else:
            # The broker inside the process has no socket.
            for letter in letters:
                self.channel.basic_publish(
                    self._message(letter),
                    exchange=letter.exchange,
                    routing_key=letter.routing_key,
                    mandatory=True,
                )

    def _message(self, letter: Letter) -> Any:
        self.published += 1
        self.outstanding[self.published] = letter.run_id
        return self.channel.prepare_message(
            messages.BODY,
            content_type=messages.CONTENT_TYPE,
            content_encoding=messages.CONTENT_ENCODING,
            headers=letter.headers,
            properties={"delivery_mode": 2, "correlation_id": letter.run_id},
        )

    def _write_together(self, posted: Sequence[tuple[Letter, Any]], deadline: float) -> None:
        """Write all frames in one call: py-amqp's own publish reads and writes for each message."""
        connection = self.channel.connection
        if connection is None:
            raise RecoverableConnectionError("the channel is closed")
        gathered = _Gathered()
        write_frame = frame_writer(connection, gathered)
        for letter, message in posted:
            # The last two: mandatory, and not immediate, which RabbitMQ does not know.
            place = (0, letter.exchange, letter.routing_key, True, False)
            method = dumps("Bssbb", place)
            write_frame(_METHOD, self.channel.channel_id, Basic.Publish, method, message)
        with connection.transport.having_timeout(seconds_left(deadline)):
            connection.transport.write(b"".join(gathered.frames))

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
