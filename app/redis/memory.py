"""The store in this process's memory: for the embedded form and for tests."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

from app.redis.errors import NotACounter

_MAX_ENTRIES = 10_000
_MAX_COUNT = 2**63 - 1
_MIN_COUNT = -(2**63)


class MemoryStore:
    """A bounded dictionary behind a lock; the entry that was unused longest goes first."""

    kind: Literal["memory"] = "memory"

    def __init__(
        self, *, max_entries: int = _MAX_ENTRIES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()

    async def read(self, key: str) -> bytes | None:
        """Return the bytes, None when absent."""
        with self._lock:
            return self._live(key)

    async def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the bytes of each key, None where absent."""
        with self._lock:
            return [self._live(key) for key in keys]

    async def write(self, key: str, value: bytes, ttl_ms: int) -> None:
        """Keep the bytes."""
        with self._lock:
            self._keep(key, value, self._end(ttl_ms))

    async def write_if_absent(self, key: str, value: bytes, ttl_ms: int) -> bool:
        """Keep the bytes unless the key is there."""
        with self._lock:
            if self._live(key) is not None:
                return False
            self._keep(key, value, self._end(ttl_ms))
            return True

    async def remove(self, *keys: str) -> int:
        """Remove the keys; return how many there were."""
        with self._lock:
            present = [key for key in dict.fromkeys(keys) if self._live(key) is not None]
            for key in present:
                del self._entries[key]
            return len(present)

    async def remove_if_equal(self, key: str, value: bytes) -> None:
        """Remove the key if it still holds these bytes."""
        with self._lock:
            if self._live(key) == value:
                del self._entries[key]

    async def add(self, key: str, amount: int, ttl_ms: int) -> int:
        """Add to a counter; NotACounter where Redis would refuse it too."""
        with self._lock:
            present = self._live(key)
            end = self._end(ttl_ms) if present is None else self._entries[key][1]
            total = _count(present) + amount
            if not _MIN_COUNT <= total <= _MAX_COUNT:
                raise NotACounter("The counter would leave 64 bits.")
            self._keep(key, str(total).encode(), end)
            return total

    async def has(self, key: str) -> bool:
        """Return whether the key is there."""
        with self._lock:
            return self._live(key) is not None

    async def set_ttl(self, key: str, ttl_ms: int) -> bool:
        """Set the key's remaining life; return whether it was there."""
        with self._lock:
            value = self._live(key)
            if value is None:
                return False
            self._keep(key, value, self._end(ttl_ms))
            return True

    async def close(self) -> None:
        """Do nothing: the entries live as long as the store."""

    def _end(self, ttl_ms: int) -> float:
        return self._clock() + ttl_ms / 1000

    def _live(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def _keep(self, key: str, value: bytes, end: float) -> None:
        self._entries[key] = (value, end)
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


def _count(value: bytes | None) -> int:
    if value is None:
        return 0
    try:
        return int(value)
    except ValueError:
        raise NotACounter("The key holds a value that is no counter.") from None
