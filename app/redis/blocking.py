"""The cache for code that does not await: a `def` task of a worker."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from app.redis.port import CacheClient

_T = TypeVar("_T")


class Run(Protocol):
    """Runs a coroutine to its end on a loop that does not run now, and returns its result."""

    def __call__(self, coroutine: Coroutine[Any, Any, _T], /) -> _T: ...


class BlockingCache:
    """The blocking form of a cache, with the same promises; see `CacheClient`."""

    def __init__(self, cache: CacheClient, run: Run) -> None:
        self._cache = cache
        self._run = run

    def get(self, key: str) -> object | None:
        """Return the value; None when it is absent or the store is gone."""
        return self._run(self._cache.get(key))

    def get_many(self, keys: Sequence[str]) -> dict[str, object]:
        """Return the values of the keys that are there, in one round trip."""
        return self._run(self._cache.get_many(keys))

    def set(self, key: str, value: object, ttl_seconds: float | None = None) -> bool:
        """Keep a value; return whether the store took it."""
        return self._run(self._cache.set(key, value, ttl_seconds))

    def delete(self, *keys: str) -> int:
        """Forget the keys; return how many there were."""
        return self._run(self._cache.delete(*keys))

    def incr(self, key: str, amount: int = 1, ttl_seconds: float | None = None) -> int | None:
        """Add to a counter; None when the store is gone."""
        return self._run(self._cache.incr(key, amount, ttl_seconds))

    def exists(self, key: str) -> bool:
        """Return whether the key is there."""
        return self._run(self._cache.exists(key))

    def expire(self, key: str, ttl_seconds: float) -> bool:
        """Set the key's remaining life; return whether it was there."""
        return self._run(self._cache.expire(key, ttl_seconds))

    def get_or_load(
        self, key: str, loader: Callable[[], object], ttl_seconds: float | None = None
    ) -> object:
        """Return the value, or load it once for everybody who asks at the same time."""

        async def load() -> object:
            return loader()

        return self._run(self._cache.get_or_load(key, load, ttl_seconds))

    def namespace(self, name: str, *, version: int = 1) -> "BlockingCache":
        """Return the same cache with its own keys."""
        return BlockingCache(self._cache.namespace(name, version=version), self._run)
