"""The order in which a worker's waiting messages get its free slots."""

import heapq
import itertools
from typing import Any, Final

_URGENCY: Final = {"high": 0, "low": 2}
_NORMAL: Final = 1


class UrgentFirst:
    """Waiting requests, the most urgent queue first and first come first served within it.

    It stands in for the deque of kombu's semaphore. Quorum queues limit the prefetch per queue,
    so a busy worker holds messages of all three queues of a class; without an order a high one
    would wait behind the normal ones that came before it.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, tuple[Any, ...]]] = []
        self._arrivals = itertools.count()

    def append(self, waiter: tuple[Any, ...]) -> None:
        heapq.heappush(self._heap, (urgency(waiter), next(self._arrivals), waiter))

    def popleft(self) -> tuple[Any, ...]:
        """Return the next waiter; IndexError when none waits, as a deque does."""
        return heapq.heappop(self._heap)[2]

    def clear(self) -> None:
        self._heap.clear()

    def __len__(self) -> int:
        return len(self._heap)


def urgency(waiter: tuple[Any, ...]) -> int:
    """Return 0 for a request of a `.high` queue, 2 for a `.low` one and 1 for any other."""
    arguments = waiter[1] if len(waiter) > 1 else ()
    info = getattr(arguments[0], "delivery_info", None) if arguments else None
    routing_key = str((info or {}).get("routing_key") or "")
    return _URGENCY.get(routing_key.rpartition(".")[2], _NORMAL)


def put_urgent_first(semaphore: Any) -> None:
    """Give the semaphore of a prefork pool its order; other pools have none."""
    if semaphore is None:
        return
    waiting = UrgentFirst()
    # The semaphore has bound the methods of its deque; the pool holds the semaphore itself.
    semaphore._waiting = waiting  # noqa: SLF001 - kombu offers no other way in
    semaphore._add_waiter = waiting.append  # noqa: SLF001
    semaphore._pop_waiter = waiting.popleft  # noqa: SLF001
