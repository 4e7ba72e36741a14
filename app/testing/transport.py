"""A queue in memory behind the `Transport` port."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.tasks.transport import QueueLevel, Wakeup

_LEVELS = ((7, 0), (3, 1))  # from priority 7 on high, from 3 on normal, else low


@dataclass
class MemoryTransport:
    """Remembers what it is sent; `confirms` says whether a broker answers."""

    confirms: bool = True
    sent: list[Wakeup] = field(default_factory=list)
    dead: list[tuple[Wakeup, Mapping[str, str]]] = field(default_factory=list)
    backlogs: dict[str, int] = field(default_factory=dict)
    consumers: int = 1

    async def send(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        """Keep the wake-ups and confirm them, unless nobody answers."""
        if not self.confirms:
            return frozenset()
        self.sent.extend(wakeups)
        return frozenset(wakeup.run_id for wakeup in wakeups)

    async def send_dead_letter(self, wakeup: Wakeup, error: Mapping[str, str]) -> bool:
        """Keep the message beside its error."""
        self.dead.append((wakeup, error))
        return self.confirms

    async def backlog(self, queues: Sequence[str]) -> Mapping[str, int]:
        """Return the counts in `backlogs`, 0 for a queue that is not there."""
        return {queue: self.backlogs.get(queue, 0) for queue in queues}

    async def levels(self, queues: Sequence[str]) -> Mapping[str, QueueLevel]:
        """Return the backlog beside `consumers` for each queue, nothing when nobody answers."""
        if not self.confirms:
            return {}
        counts = await self.backlog(queues)
        return {queue: QueueLevel(counts[queue], self.consumers) for queue in queues}

    async def ping(self) -> None:
        """Answer."""

    async def close(self) -> None:
        """Keep everything: a test looks at it afterwards."""


@dataclass(frozen=True, slots=True)
class _Message:
    due: datetime
    level: int
    number: int
    wakeup: Wakeup


class MemoryBroker(MemoryTransport):
    """Holds each message until it is due by `now`, then hands them out as the real queues do:
    the urgent ones first, within one urgency in the order in which they came.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__()
        self._now = now
        self._numbers = itertools.count()
        self._waiting: list[_Message] = []

    async def send(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        """Queue the wake-ups; one with a delay comes out when the clock has reached it."""
        confirmed = await super().send(wakeups)
        for wakeup in wakeups if confirmed else ():
            due = self._now() + _whole_milliseconds(wakeup.delay_seconds)
            level = next((level for least, level in _LEVELS if wakeup.priority >= least), 2)
            self._waiting.append(_Message(due, level, next(self._numbers), wakeup))
        return confirmed

    async def backlog(self, queues: Sequence[str]) -> Mapping[str, int]:
        """Return the messages per queue that a worker could take now."""
        now = self._now()
        ready = [message.wakeup.queue for message in self._waiting if message.due <= now]
        return {queue: ready.count(queue) for queue in queues}

    def take(self) -> Wakeup | None:
        """Return the next message that is due, None when a worker would have nothing to do."""
        now = self._now()
        ready = [message for message in self._waiting if message.due <= now]
        if not ready:
            return None
        first = min(ready, key=lambda message: (message.level, message.number))
        self._waiting.remove(first)
        return first.wakeup

    def next_due(self) -> datetime | None:
        """Return when the next message is due, None when none waits."""
        return min((message.due for message in self._waiting), default=None)


def _whole_milliseconds(seconds: float) -> timedelta:
    # Databases keep due times in milliseconds at the least; a message must not come before its row.
    return timedelta(milliseconds=-(-max(0.0, seconds) * 1000 // 1))
