"""The order in which a worker's waiting messages get its free slots."""

from collections import deque
from collections.abc import Callable
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

    `keeps_one` says whether the slot that has become free is kept for urgent requests.
    """

    def __init__(self, keeps_one: Callable[[], bool] = lambda: False) -> None:
        self._keeps_one = keeps_one
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._overtaken = 0

    def append(self, waiter: tuple[Any, ...]) -> None:
        self._waiting.append(waiter)

    def popleft(self) -> tuple[Any, ...]:
        """Return the next waiter; IndexError when none waits or may go, as a deque does."""
        if not self._waiting:
            raise IndexError("nobody waits")
        first = min(range(len(self._waiting)), key=lambda place: urgency(self._waiting[place]))
        if self._keeps_one() and not is_urgent(self._waiting[first]):
            raise IndexError("the last slots are for urgent requests")
        if first == 0 or self._overtaken >= PATIENCE:
            self._overtaken = 0
            return self._waiting.popleft()
        self._overtaken += 1
        waiter = self._waiting[first]
        del self._waiting[first]
        return waiter

    def take_out(self, is_meant: Callable[[Any], bool], at_most: int | None = None) -> list[Any]:
        """Return the requests that are meant, in their order; they wait here no more."""
        taken: list[Any] = []
        left: list[tuple[Any, ...]] = []
        for waiter in self._waiting:
            has_room = at_most is None or len(taken) < at_most
            if has_room and waiter[1] and is_meant(waiter[1][0]):
                taken.append(waiter[1][0])
            else:
                left.append(waiter)
        self._waiting = deque(left)
        return taken

    def clear(self) -> None:
        self._waiting.clear()
        self._overtaken = 0

    def __len__(self) -> int:
        return len(self._waiting)


class Slots:
    """The slots of a prefork pool, of which the last `reserved` free ones are for urgent requests.

    A semaphore is not told whose slot comes back, so what is kept is a number of free slots, not
    certain processes: while urgent requests run, there are as many less for the others.
    """

    def __init__(self, semaphore: Any, reserved: int) -> None:
        self._semaphore = semaphore
        self._reserved = reserved
        waiting = UrgentFirst(self._keeps_one)
        # The semaphore has bound the methods of its deque; the pool holds the semaphore itself.
        semaphore._waiting = waiting  # noqa: SLF001 - kombu offers no other way in
        semaphore._add_waiter = waiting.append  # noqa: SLF001
        semaphore._pop_waiter = waiting.popleft  # noqa: SLF001

    def acquire(self, callback: Callable[..., object], *arguments: Any, **named: Any) -> bool:
        """Call back at once, or when there is a slot for the request; return whether at once."""
        waiter = (callback, arguments, named)
        if self._semaphore.value <= self._reserve and not is_urgent(waiter):
            self._semaphore._add_waiter(waiter)  # noqa: SLF001 - as above
            return False
        return bool(self._semaphore.acquire(callback, *arguments, **named))

    @property
    def _reserve(self) -> int:
        # A pool that somebody shrinks to its reserve still runs everything.
        return max(0, min(self._reserved, int(self._semaphore.initial_value) - 1))

    def _keeps_one(self) -> bool:
        # Asked while a slot comes back, before it is counted.
        return bool(self._semaphore.value < self._reserve)


def urgency(waiter: tuple[Any, ...]) -> int:
    """Return 0 for a request of a `.high` queue, 2 for a `.low` one and 1 for any other."""
    arguments = waiter[1] if len(waiter) > 1 else ()
    info = getattr(arguments[0], "delivery_info", None) if arguments else None
    routing_key = str((info or {}).get("routing_key") or "")
    return _URGENCY.get(routing_key.rpartition(".")[2], _NORMAL)


def is_urgent(waiter: tuple[Any, ...]) -> bool:
    """Return whether the waiter is a request of a `.high` queue."""
    return urgency(waiter) < _NORMAL


def put_urgent_first(worker: Any, reserved: int) -> None:
    """Give the slots of a prefork worker their order and their reserve; other pools have none."""
    semaphore = getattr(worker, "semaphore", None)
    if semaphore is not None:
        worker._quick_acquire = Slots(semaphore, reserved).acquire  # noqa: SLF001 - as above
