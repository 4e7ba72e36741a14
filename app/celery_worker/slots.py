"""The order in which a worker's waiting messages get its free slots."""

from collections import deque
from typing import Any, Final

_URGENCY: Final = {"high": 0, "low": 2}
_NORMAL: Final = 1

# So many times in a row the longest waiting message is passed over; then it is its turn.
PATIENCE: Final = 4


class UrgentFirst:
    """Waiting requests, the most urgent queue first and first come first served within it.

    It stands in for the deque of kombu's semaphore. Quorum queues limit the prefetch per queue,
    so a busy worker holds messages of all three queues of a class; without an order a high one
    would wait behind the normal ones that came before it. Nothing starves: after four that
    overtook it, the longest waiting one goes.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._overtaken = 0

    def append(self, waiter: tuple[Any, ...]) -> None:
        self._waiting.append(waiter)

    def popleft(self) -> tuple[Any, ...]:
        """Return the next waiter; IndexError when none waits, as a deque does."""
        if not self._waiting:
            raise IndexError("nobody waits")
        first = min(range(len(self._waiting)), key=lambda place: urgency(self._waiting[place]))
        if first == 0 or self._overtaken >= PATIENCE:
            self._overtaken = 0
            return self._waiting.popleft()
        self._overtaken += 1
        waiter = self._waiting[first]
        del self._waiting[first]
        return waiter

    def clear(self) -> None:
        self._waiting.clear()
        self._overtaken = 0

    def __len__(self) -> int:
        return len(self._waiting)


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
