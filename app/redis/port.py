"""The ports: what callers see of the cache, and what the cache needs from a store."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

BreakerState = Literal["closed", "open", "probing"]


@dataclass(frozen=True, slots=True)
class CacheHealth:
    """The cache's state: "ok", or "degraded" while the breaker keeps it out of the way."""

    status: Literal["ok", "degraded"]
    store: Literal["memory", "redis"]
    breaker: BreakerState
    latency_ms: float | None
    error: str | None = None


class CacheClient(Protocol):
    """A cache of JSON values that may forget anything at any time.

    No method raises when the store is gone. Keys are any text; values are what
    JSON can hold, and come back as JSON gives them (a tuple as a list); another
    value is a TypeError. Every entry ends: without `ttl_seconds` after five
    minutes, and up to a tenth earlier than asked, so that entries of one moment
    do not all end in one moment. After an outage an entry whose removal was
    missed can be stale until then: keep the time short where that matters.
    """

    async def get(self, key: str) -> object | None:
        """Return the value; None when it is absent (or is null) or the store is gone."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, object]:
        """Return the values of the keys that are there, in one round trip."""

    async def set(self, key: str, value: object, ttl_seconds: float | None = None) -> bool:
        """Keep a value; return whether the store took it (too large ones it does not)."""

    async def delete(self, *keys: str) -> int:
        """Forget the keys; return how many there were."""

    async def incr(self, key: str, amount: int = 1, ttl_seconds: float | None = None) -> int | None:
        """Add to a counter that starts at 0 and lives `ttl_seconds` from its first use, exactly.

        Return the sum; None when the store is gone, so the caller counts in its own
        way. NotACounter for a key with another kind of value.
        """

    async def exists(self, key: str) -> bool:
        """Return whether the key is there."""

    async def expire(self, key: str, ttl_seconds: float) -> bool:
        """Set the key's remaining life, exactly; return whether it was there."""

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Awaitable[object]],
        ttl_seconds: float | None = None,
    ) -> object:
        """Return the value, or load it once for everybody who asks at the same time.

        One loader runs per process and, by a short lock in the store, as a rule one
        over all processes. What it raises reaches all who waited in this process.
        Null is kept too. Without the store, the loader runs.
        """

    def namespace(self, name: str, *, version: int = 1) -> "CacheClient":
        """Return the same cache with its own keys; a new version sees none of the old values."""

    async def ping(self) -> None:
        """Raise CacheUnavailable unless the store takes a write right now."""

    async def health(self) -> CacheHealth:
        """Return the state, measured now; never raises."""

    async def close(self) -> None:
        """Close the connections of the running loop; other loops are not disturbed."""


class CacheStore(Protocol):
    """Bytes by key with an end; every method raises StoreGone when the store cannot serve."""

    @property
    def kind(self) -> Literal["memory", "redis"]:
        """Return the store's name for health reports."""

    async def read(self, key: str) -> bytes | None:
        """Return the bytes, None when absent."""

    async def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the bytes of each key, None where absent, in the order of the keys."""

    async def write(self, key: str, value: bytes, ttl_ms: int) -> None:
        """Keep the bytes."""

    async def write_if_absent(self, key: str, value: bytes, ttl_ms: int) -> bool:
        """Keep the bytes unless the key is there, atomically; return whether they were kept."""

    async def remove(self, *keys: str) -> int:
        """Remove the keys; return how many there were."""

    async def remove_if_equal(self, key: str, value: bytes) -> None:
        """Remove the key if it still holds these bytes, atomically."""

    async def add(self, key: str, amount: int, ttl_ms: int) -> int:
        """Add to a counter, whose life starts with its first use; return the sum."""

    async def has(self, key: str) -> bool:
        """Return whether the key is there."""

    async def set_ttl(self, key: str, ttl_ms: int) -> bool:
        """Set the key's remaining life; return whether it was there."""

    async def close(self) -> None:
        """Close the connections."""
