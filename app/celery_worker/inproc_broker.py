"""The in-process broker behind `inproc://`: exchanges, queues, delays, dead letters, limits.

It copies the parts of RabbitMQ that our topology uses, and nothing polls: a waiting consumer
sleeps on one condition until a message comes or the next delay is over.
"""

import copy
import heapq
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Raw = dict[str, Any]


class ArgumentsDiffer(Exception):
    """A queue or exchange exists with other arguments (RabbitMQ's 406)."""


@dataclass(slots=True)
class BrokerQueue:
    """One queue: what is ready, and what is under way to a consumer."""

    name: str
    arguments: dict[str, Any]
    ready: deque[Raw] = field(default_factory=deque)
    unacknowledged: int = 0

    @property
    def ttl_seconds(self) -> float | None:
        ttl = self.arguments.get("x-message-ttl")
        return None if ttl is None else ttl / 1000


class InprocBroker:
    """The broker of one process. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.exchanges: dict[str, tuple[str, dict[str, Any]]] = {}
        self.bindings: dict[str, dict[tuple[str, str], None]] = {}
        self.queues: dict[str, BrokerQueue] = {}
        self.consumers: Counter[str] = Counter()
        self._delays: list[tuple[float, int, str, Raw]] = []
        self._sequence = itertools.count()
        self._undelivered: list[tuple[str, str, Raw]] = []
        self.interrupts = 0

    def declare_exchange(self, name: str, kind: str, arguments: dict[str, Any]) -> None:
        with self.changed:
            if self.exchanges.setdefault(name, (kind, arguments)) != (kind, arguments):
                raise ArgumentsDiffer(
                    f"PRECONDITION_FAILED - inequivalent arg for exchange '{name}'"
                )
            self.bindings.setdefault(name, {})

    def delete_exchange(self, name: str) -> None:
        with self.changed:
            self.exchanges.pop(name, None)
            self.bindings.pop(name, None)

    def declare_queue(self, name: str, arguments: dict[str, Any]) -> None:
        with self.changed:
            queue = self.queues.setdefault(name, BrokerQueue(name, arguments))
            if queue.arguments != arguments:
                raise ArgumentsDiffer(f"PRECONDITION_FAILED - inequivalent arg for queue '{name}'")
            self._deliver_again()

    def delete_queue(self, name: str) -> int:
        """Delete a queue with its bindings; return how many messages went with it."""
        with self.changed:
            queue = self.queues.pop(name, None)
            for table in self.bindings.values():
                for binding in [key for key in table if key[1] == name]:
                    del table[binding]
            self._delays = [entry for entry in self._delays if entry[2] != name]
            heapq.heapify(self._delays)
            return len(queue.ready) if queue else 0

    def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        with self.changed:
            self.bindings.setdefault(exchange, {})[routing_key, queue] = None
            self._deliver_again()

    def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        with self.changed:
            self.bindings.get(exchange, {}).pop((routing_key, queue), None)

    def publish(self, exchange: str, routing_key: str, raw: Raw) -> bool:
        """Put a message on every queue that the key leads to; False when there is none."""
        with self.changed:
            targets = self._targets(exchange, routing_key)
            for number, queue in enumerate(targets):
                self._put(queue, raw if number == 0 else copy.deepcopy(raw))
            return bool(targets)

    def take(self, names: Iterable[str]) -> tuple[BrokerQueue, Raw] | None:
        """Take the next ready message of the named queues, in their order."""
        with self.changed:
            self._let_delays_out()
            for name in names:
                queue = self.queues.get(name)
                if queue is not None and queue.ready:
                    queue.unacknowledged += 1
                    return queue, queue.ready.popleft()
            return None

    def settle(self, queue: BrokerQueue) -> None:
        """Forget a delivered message: it was acknowledged."""
        with self.changed:
            queue.unacknowledged -= 1
            self.changed.notify_all()

    def give_back(self, queue: BrokerQueue, raw: Raw) -> None:
        """Put a delivered message back at the head; dead-letter it when it came too often."""
        with self.changed:
            queue.unacknowledged -= 1
            returns = raw["headers"].get("x-delivery-count", 0) + 1
            limit = queue.arguments.get("x-delivery-limit")
            if limit is not None and returns > limit:
                self._dead_letter(queue, raw, "delivery_limit")
            elif self.queues.get(queue.name) is queue:
                raw["headers"]["x-delivery-count"] = returns
                raw["properties"]["delivery_info"]["redelivered"] = True
                queue.ready.appendleft(raw)
            self.changed.notify_all()

    def refuse(self, queue: BrokerQueue, raw: Raw) -> None:
        """Dead-letter a delivered message: it was rejected."""
        with self.changed:
            queue.unacknowledged -= 1
            self._dead_letter(queue, raw, "rejected")
            self.changed.notify_all()

    def size(self, name: str) -> int:
        """Return how many messages are in a queue, those held back by its delay included."""
        with self.changed:
            self._let_delays_out()
            queue = self.queues.get(name)
            held = sum(1 for entry in self._delays if entry[2] == name)
            return held + (len(queue.ready) if queue else 0)

    def purge(self, name: str) -> int:
        with self.changed:
            size = self.size(name)
            if queue := self.queues.get(name):
                queue.ready.clear()
            self._delays = [entry for entry in self._delays if entry[2] != name]
            heapq.heapify(self._delays)
            return size

    def seconds_to_next_delay(self) -> float | None:
        """Return after how many seconds the next delay is over, None when nothing is delayed."""
        with self.changed:
            return max(0.0, self._delays[0][0] - time.monotonic()) if self._delays else None

    def interrupt(self) -> None:
        """Wake every waiting consumer so that it looks at its own state (used to stop it)."""
        with self.changed:
            self.interrupts += 1
            self.changed.notify_all()

    def _targets(self, exchange: str, routing_key: str) -> list[BrokerQueue]:
        if not exchange:
            return [self.queues[routing_key]] if routing_key in self.queues else []
        kind = self.exchanges.get(exchange, ("direct", {}))[0]
        names = [
            queue
            for key, queue in self.bindings.get(exchange, {})
            if kind == "fanout" or _matches(key, routing_key, topic=kind == "topic")
        ]
        return [self.queues[name] for name in dict.fromkeys(names) if name in self.queues]

    def _put(self, queue: BrokerQueue, raw: Raw) -> None:
        if queue.ttl_seconds is None:
            queue.ready.append(raw)
        else:
            due = time.monotonic() + queue.ttl_seconds
            heapq.heappush(self._delays, (due, next(self._sequence), queue.name, raw))
        self.changed.notify_all()

    def _let_delays_out(self) -> None:
        now = time.monotonic()
        while self._delays and self._delays[0][0] <= now:
            _, _, name, raw = heapq.heappop(self._delays)
            self._dead_letter(self.queues[name], raw, "expired")

    def _dead_letter(self, queue: BrokerQueue, raw: Raw, reason: str) -> None:
        exchange = queue.arguments.get("x-dead-letter-exchange")
        if exchange is None:
            return
        info = raw["properties"]["delivery_info"]
        came_by = info.get("exchange", ""), info.get("routing_key", "")
        routing_key = queue.arguments.get("x-dead-letter-routing-key") or came_by[1]
        raw["headers"] = _with_death(raw["headers"], queue.name, reason, came_by)
        raw["properties"]["delivery_info"] = {"exchange": exchange, "routing_key": routing_key}
        if not self.publish(exchange, routing_key, raw):
            # At-least-once: it waits until there is a queue for it.
            self._undelivered.append((exchange, routing_key, raw))

    def _deliver_again(self) -> None:
        waiting, self._undelivered = self._undelivered, []
        self._undelivered += [entry for entry in waiting if not self.publish(*entry)]


def _matches(pattern: str, routing_key: str, *, topic: bool) -> bool:
    if not topic:
        return pattern == routing_key
    return _topic_matches(pattern.split("."), routing_key.split("."))


def _topic_matches(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return _topic_matches(pattern[1:], words) or (
            bool(words) and _topic_matches(pattern, words[1:])
        )
    return bool(words) and pattern[0] in {"*", words[0]} and _topic_matches(pattern[1:], words[1:])


def _with_death(headers: Raw, queue: str, reason: str, came_by: tuple[str, str]) -> Raw:
    """Return the headers with this death counted in `x-death`, the newest first."""
    exchange, routing_key = came_by
    deaths = [dict(death) for death in headers.get("x-death", ())]
    known = next(
        (death for death in deaths if (death["queue"], death["reason"]) == (queue, reason)), None
    )
    if known is None:
        known = {
            "count": 0,
            "reason": reason,
            "queue": queue,
            "time": datetime.now(UTC),
            "exchange": exchange,
            "routing-keys": [routing_key],
        }
    known["count"] += 1
    first = {
        "x-first-death-reason": reason,
        "x-first-death-queue": queue,
        "x-first-death-exchange": exchange,
    }
    return {
        **first,
        **headers,
        "x-death": [known, *(death for death in deaths if death is not known and death != known)],
    }
