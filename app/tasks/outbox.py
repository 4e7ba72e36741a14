"""The outbox: rows whose message is not confirmed yet are sent and then marked.

The row is committed before; whatever happens here, the sweeper sends again what
stayed unmarked.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from app.common.logging import get_logger
from app.common.metrics import OUTBOX_UNCONFIRMED
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.transitions import MARK_PUBLISHED
from app.tasks.transport import Transport, Wakeup

_BATCH = 500
# What does not fit stays in its rows, unpublished, and the sweeper sends it.
MOST_WAITING = 50_000
log = get_logger(__name__)


class Outbox:
    """Sends wake-ups and marks their rows: at once (`flush`) or in the background (`offer`)."""

    def __init__(
        self, databases: Databases, transport: Transport, most_waiting: int = MOST_WAITING
    ) -> None:
        self._databases = databases
        self._transport = transport
        self._waiting: deque[Wakeup] = deque()
        self._bulk: deque[Wakeup] = deque()
        self._most_waiting = most_waiting
        self._task: asyncio.Task[None] | None = None

    def offer(self, wakeups: Sequence[Wakeup]) -> None:
        """Send in the background; the caller's answer does not wait for the broker."""
        self._add(self._waiting, wakeups)

    def offer_many(self, wakeups: Sequence[Wakeup]) -> None:
        """As `offer`, for a batch, which lets single runs go first."""
        self._add(self._bulk, wakeups)

    def _add(self, queue: deque[Wakeup], wakeups: Sequence[Wakeup]) -> None:
        room = max(0, self._most_waiting - len(self._waiting) - len(self._bulk))
        if len(wakeups) > room:
            log.warning("the outbox is full; the sweeper will send", count=len(wakeups) - room)
        queue.extend(wakeups[:room])
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def flush(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        """Send now and mark what the broker confirmed; return the confirmed run ids."""
        if not wakeups:
            return frozenset()
        confirmed = await self._transport.send(wakeups)
        if missing := len(wakeups) - len(confirmed):
            OUTBOX_UNCONFIRMED.inc(missing)
            log.warning("messages not confirmed; the sweeper will send them again", count=missing)
        marks = [
            {"run_id": wakeup.run_id, "held_fence": wakeup.fence}
            for wakeup in wakeups
            if wakeup.run_id in confirmed
        ]
        if marks:
            async with self._databases.begin(APPLICATION_BIND) as connection:
                await connection.execute(MARK_PUBLISHED, marks)
        return confirmed

    async def close(self) -> None:
        """Finish what was offered, within the transport's bounded waits."""
        if self._task is not None:
            await self._task

    async def _drain(self) -> None:
        while batch := self._next():
            try:
                await self.flush(batch)
            except Exception:
                # The rows are safe and unmarked; a publisher that dies would only make them late.
                log.exception(
                    "a batch of messages could not be marked; the sweeper will send them again"
                )

    def _next(self) -> list[Wakeup]:
        first = list(islice(_emptying(self._waiting), _BATCH))
        return first + list(islice(_emptying(self._bulk), _BATCH - len(first)))


def _emptying(queue: deque[Wakeup]) -> Iterator[Wakeup]:
    while queue:
        yield queue.popleft()
