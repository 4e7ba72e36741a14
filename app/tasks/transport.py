"""The port to the queue. `app.celery_worker` implements it; this room knows no broker."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Wakeup:
    """A message about a run: enough to route it, never its arguments.

    `function` is the code task that runs it, `queue` the class of queue, `priority`
    0 to 9. `fence` is the row's fence when the wake-up was made, so that a late
    mark cannot touch a later attempt. The delay counts from `made_at`, on the
    monotonic clock of this process.
    """

    run_id: str
    function: str
    queue: str
    priority: int = 5
    delay_seconds: float = 0.0
    timeout_seconds: float | None = None
    traceparent: str | None = None
    fence: int = 0
    made_at: float = field(default_factory=time.monotonic, init=False, compare=False, repr=False)

    @property
    def seconds_left(self) -> float:
        """The rest of the delay: while a message waits to be sent, its time runs already."""
        if self.delay_seconds <= 0:
            return 0.0
        return max(0.0, self.delay_seconds - (time.monotonic() - self.made_at))


def seconds_until(due: datetime | None, now: datetime) -> float:
    """Return the delay of a message whose run is due then; 0 when it is, and without a moment."""
    return 0.0 if due is None else max(0.0, (due - now).total_seconds())


@dataclass(frozen=True, slots=True)
class QueueLevel:
    """What the broker says of a class of queues: messages that wait, and workers that consume."""

    ready: int
    consumers: int


class Transport(Protocol):
    """What a queue must do for us; no method raises because the broker is in trouble."""

    async def send(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        """Return the run ids whose message the broker has confirmed, within a bounded time."""

    async def send_dead_letter(self, wakeup: Wakeup, error: Mapping[str, str]) -> bool:
        """Put the message of a run that failed for good into its dead-letter queue; return whether
        confirmed.
        """

    async def backlog(self, queues: Sequence[str]) -> Mapping[str, int]:
        """Return the messages that wait for a consumer per queue class; a class that cannot be read
        is absent.
        """

    async def levels(self, queues: Sequence[str]) -> Mapping[str, QueueLevel]:
        """Return the level of each queue class; a class that cannot be read is absent."""

    async def ping(self) -> None:
        """Return when the broker answers; raise ServiceUnavailable when it does not."""

    async def close(self) -> None:
        """Let go of the connection; messages not yet confirmed stay with their rows."""
