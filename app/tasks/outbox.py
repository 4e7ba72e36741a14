"""The outbox: rows whose message is not confirmed yet are sent and then marked.

The row is committed before; whatever happens here, the sweeper sends again what
stayed unmarked.
"""

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeGuard

from app.common.logging import get_logger
from app.common.metrics import OUTBOX_UNCONFIRMED
from app.db import Databases
from app.tasks.published_marks import mark_published
from app.tasks.transport import Transport, Wakeup

_BATCH = 500
# What does not fit stays in its rows, unpublished, and the sweeper sends it.
MOST_WAITING = 50_000
# A mark is in no hurry: the sweeper looks after seconds, and a run that has started meanwhile has
# been marked by its claim.
_MARK_AFTER_SECONDS: Final = 0.05
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
        self._confirmed: deque[Wakeup] = deque()
        self._most_waiting = most_waiting
        self._sending: asyncio.Task[None] | None = None
        self._marking: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

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
        if not _goes_on(self._sending):
            self._sending = _start(self._send_all())

    async def flush(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        """Send now and mark what the broker confirmed; return the confirmed run ids."""
        confirmed = await self._send(wakeups)
        await mark_published(self._databases, confirmed)
        return frozenset(wakeup.run_id for wakeup in confirmed)

    async def close(self) -> None:
        """Finish what was offered, within the transport's bounded waits."""
        self._closing.set()
        while under_way := [task for task in (self._sending, self._marking) if _goes_on(task)]:
            await asyncio.wait(under_way)
        self._closing.clear()

    async def _send_all(self) -> None:
        while batch := self._next():
            try:
                self._confirmed.extend(await self._send(batch))
            except Exception:
                # The rows are safe and unmarked; a publisher that dies would only make them late.
                log.exception("a batch of messages was not sent; the sweeper will send them")
            if self._confirmed and not _goes_on(self._marking):
                self._marking = _start(self._mark_all())
            # A transport inside the process waits for nothing; others have their turn here.
            await asyncio.sleep(0)

    async def _mark_all(self) -> None:
        while self._confirmed:
            if len(self._confirmed) < _BATCH:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), _MARK_AFTER_SECONDS)
            try:
                await mark_published(
                    self._databases, list(islice(_emptying(self._confirmed), _BATCH))
                )
            except Exception:
                log.exception("messages could not be marked; the sweeper will send them again")

    def _next(self) -> list[Wakeup]:
        first = list(islice(_emptying(self._waiting), _BATCH))
        return first + list(islice(_emptying(self._bulk), _BATCH - len(first)))

    async def _send(self, wakeups: Sequence[Wakeup]) -> list[Wakeup]:
        """Return the wake-ups that the broker confirmed."""
        if not wakeups:
            return []
        confirmed = await self._transport.send(wakeups)
        if missing := len(wakeups) - len(confirmed):
            OUTBOX_UNCONFIRMED.inc(missing)
            log.warning("messages not confirmed; the sweeper will send them again", count=missing)
        return [wakeup for wakeup in wakeups if wakeup.run_id in confirmed]


def _start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    # In a context of its own: it outlives the request that happens to start it.
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())


def _goes_on(task: asyncio.Task[None] | None) -> TypeGuard[asyncio.Task[None]]:
    return task is not None and not task.done()


def _emptying(queue: deque[Wakeup]) -> Iterator[Wakeup]:
    while queue:
        yield queue.popleft()
