"""Sending wake-ups: pipelined confirms, returns seen, every wait bounded.

A run id counts as sent when the broker has confirmed its message and has not returned it as
unroutable. Everything else stays unpublished in its row, and the sweeper sends it again.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.celery_worker import messages
from app.celery_worker.confirms import BROKER_TROUBLE, ConfirmChannel, Letter, seconds_left
from app.celery_worker.connections import (
    QUEUE_GONE_SECONDS,
    BrokerUnavailable,
    TopologyMismatch,
    declare_exchanges,
    declare_queue,
    open_connection,
)
from app.celery_worker.topology import QueueSpec, Topology
from app.common import failpoints
from app.common.logging import get_logger
from app.config.settings import CelerySettings
from app.tasks.transport import QueueLevel, Wakeup

_log = get_logger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0

# So many messages are under way before their confirms are awaited.
_BATCH: Final = 500


class Publisher:
    """The publisher itself, for one thread at a time; it connects on first use."""

    def __init__(self, settings: CelerySettings, *, heartbeat_seconds: float = 0) -> None:
        self._url = settings.broker_url.get_secret_value()
        self._timeout = settings.publish_timeout_seconds
        self._topology = Topology.of(settings)
        self._heartbeat = heartbeat_seconds
        self._channel: ConfirmChannel | None = None
        self._pause = 0.0
        self._closed_until = 0.0
        self._misfits: dict[str, float] = {}

    def send(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        """Publish; return the run ids that the broker confirmed and did not return."""
        return self._deliver([self._letter(wakeup) for wakeup in wakeups])

    def send_dead_letter(self, wakeup: Wakeup, error: Mapping[str, str]) -> bool:
        """Put a failed run's message on its dead-letter queue; True when it was confirmed."""
        letter = Letter(
            wakeup.run_id,
            self._topology.dead_letter_exchange,
            self._topology.dead_letter_queue_name(wakeup.queue),
            messages.dead_letter_headers(wakeup, error),
            wakeup.queue,
        )
        return wakeup.run_id in self._deliver([letter])

    def levels(self, queue_classes: Sequence[str]) -> dict[str, QueueLevel]:
        """Return how full each queue class is; a class that cannot be read is absent."""
        levels: dict[str, QueueLevel] = {}
        deadline = time.monotonic() + self._timeout
        for queue_class in queue_classes:
            try:
                levels[queue_class] = self._level(queue_class, deadline)
            except BROKER_TROUBLE as error:
                if not _is_missing(error):
                    self._drop(error)
        return levels

    def backlog(self, queue_classes: Sequence[str]) -> dict[str, int]:
        """Return the ready messages per queue class; a class that cannot be read is absent."""
        return {name: level.ready for name, level in self.levels(queue_classes).items()}

    def ping(self) -> None:
        """Ask the broker for one answer; BrokerUnavailable when it does not come in time."""
        if time.monotonic() < self._closed_until:
            raise BrokerUnavailable
        try:
            self._open(time.monotonic() + self._timeout).channel.basic_qos(0, 1, False)  # noqa: FBT003 - AMQP's argument
        except BROKER_TROUBLE as error:
            self._drop(error)
            raise BrokerUnavailable from error

    def idle(self) -> None:
        """Keep the connection alive and notice its end; called now and then between sends."""
        if self._channel is None:
            return
        connection = self._channel.connection
        try:
            if self._heartbeat and connection.supports_heartbeats:
                connection.heartbeat_check(rate=2)
            connection.drain_events(timeout=0.001)
        except TimeoutError:
            return
        except BROKER_TROUBLE as error:
            self._drop(error)

    def close(self) -> None:
        """Let go of the connection without waiting for a broker that does not answer."""
        self._drop(None)

    def _letter(self, wakeup: Wakeup) -> Letter:
        target = self._topology.broker_queue(wakeup.queue, wakeup.priority)
        headers = messages.headers_of(wakeup)
        seconds = wakeup.seconds_left
        if seconds <= 0:
            return Letter(wakeup.run_id, self._topology.exchange, target, headers, wakeup.queue)
        delay = self._topology.delay_queue(target, seconds, time.time())
        return Letter(
            wakeup.run_id, delay.exchange, delay.routing_key, headers, wakeup.queue, delay
        )

    def _deliver(self, letters: Sequence[Letter]) -> frozenset[str]:
        if time.monotonic() < self._closed_until:
            return frozenset()
        deadline = time.monotonic() + self._timeout
        sent: set[str] = set()
        # More than once: a connection that the broker closed while we were idle, a queue that
        # was deleted or has expired behind our back, or one that does not fit, shows in use only.
        for _ in range(3):
            waiting = [
                letter
                for letter in letters
                if letter.run_id not in sent and not self._is_misfit(letter)
            ]
            now = time.monotonic()
            if not waiting or now >= deadline or now < self._closed_until:
                break
            sent |= self._attempt(waiting, deadline)
        return frozenset(sent)

    def _attempt(self, letters: Sequence[Letter], deadline: float) -> set[str]:
        channel: ConfirmChannel | None = None
        try:
            channel = self._open(deadline)
            channel.forget_answers()
            for start in range(0, len(letters), _BATCH):
                self._publish(channel, letters[start : start + _BATCH], deadline)
            self._pause = 0.0
        except TopologyMismatch:
            # The class is left out for a while, so that the others in the batch go out.
            self._drop(None)
        except BROKER_TROUBLE as error:
            self._drop(error)
        if channel is None:
            return set()
        if channel.returned:
            time.sleep(min(QUEUE_GONE_SECONDS, max(0.0, deadline - time.monotonic())))
        return channel.sent()

    def _publish(self, channel: ConfirmChannel, letters: Sequence[Letter], deadline: float) -> None:
        failpoints.hit("publisher.before_publish")
        for letter in letters:
            self._require(channel, letter)
        channel.publish(letters, deadline)
        channel.await_confirms(deadline)
        failpoints.hit("publisher.after_confirm")

    def _require(self, channel: ConfirmChannel, letter: Letter) -> None:
        """Declare the queues that the letter needs, once per connection."""
        if letter.queue_class not in channel.declared:
            for queue in self._topology.queues(letter.queue_class):
                self._declare(channel, queue, letter.queue_class)
            channel.declared.add(letter.queue_class)
        delay = letter.delay_queue
        if delay is not None and delay.name not in channel.declared:
            self._declare(channel, delay, letter.queue_class)
            channel.declared.add(delay.name)

    def _declare(self, channel: ConfirmChannel, queue: QueueSpec, queue_class: str) -> None:
        try:
            declare_queue(channel.channel, queue)
        except TopologyMismatch as error:
            self._misfits[queue_class] = time.monotonic() + _LONGEST_PAUSE_SECONDS
            _log.warning("broker.topology_mismatch", detail=error.detail, hint=error.hint)
            raise

    def _is_misfit(self, letter: Letter) -> bool:
        return self._misfits.get(letter.queue_class, 0.0) > time.monotonic()

    def _level(self, queue_class: str, deadline: float) -> QueueLevel:
        # A channel of its own: asking for a queue that is not there closes the channel.
        channel: Any
        with self._open(deadline).connection.channel() as channel:
            names = self._topology.work_queue_names(queue_class)
            answers = [channel.queue_declare(name, passive=True) for name in names]
        # A worker consumes from all three queues of a class.
        return QueueLevel(
            sum(int(answer.message_count) for answer in answers),
            max(int(answer.consumer_count) for answer in answers),
        )

    def _open(self, deadline: float) -> ConfirmChannel:
        if self._channel is None:
            connection = open_connection(
                self._url, timeout_seconds=seconds_left(deadline), heartbeat_seconds=self._heartbeat
            )
            try:
                channel = ConfirmChannel(connection, connection.channel())
                declare_exchanges(channel.channel, self._topology)
                channel.listen()
            except BaseException:
                connection.collect(socket_timeout=0.1)
                raise
            self._channel = channel
        return self._channel

    def _drop(self, error: BaseException | None) -> None:
        """Forget the connection; a broker that is gone or silent is left alone for a while."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.connection.collect(socket_timeout=0.1)
        if error is None:
            return
        # An established connection that breaks is opened again at once: the broker may be back.
        if channel is None or isinstance(error, TimeoutError):
            self._pause = min(max(self._pause * 2, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
            self._closed_until = time.monotonic() + self._pause
        _log.warning("broker.trouble", error=repr(error), pause_seconds=self._pause)


def _is_missing(error: BaseException) -> bool:
    return getattr(error, "reply_code", None) == 404
