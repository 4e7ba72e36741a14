"""The URL picks the store."""

from urllib.parse import urlsplit

from app.common.errors import ConfigurationError
from app.config.settings import RedisSettings
from app.redis.breaker import Breaker
from app.redis.client import Cache, CacheLimits, StoreGuard
from app.redis.keys import Namespace
from app.redis.memory import MemoryStore
from app.redis.port import CacheClient, CacheHealth, CacheStore

__all__ = ["CacheClient", "CacheHealth", "cache_over", "open_cache"]

_REDIS_SCHEMES = frozenset({"redis", "rediss", "unix"})


def open_cache(settings: RedisSettings) -> CacheClient:
    """Return the cache of `redis.url`; ConfigurationError for a URL that no store serves.

    Nothing connects here: a Redis that is gone shows in `health` and in the metrics.
    """
    return cache_over(_store(settings), settings.namespace)


def cache_over(
    store: CacheStore,
    namespace: str,
    *,
    limits: CacheLimits | None = None,
    breaker: Breaker | None = None,
) -> CacheClient:
    """Return a cache over any store, for adapters and tests of one's own."""
    names = Namespace(namespace)
    guard = StoreGuard(store, breaker or Breaker(), probe_key=f"{names.root}:p:probe")
    return Cache(guard, names, limits)


def _store(settings: RedisSettings) -> CacheStore:
    url = settings.url.get_secret_value()
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryStore()
    if scheme not in _REDIS_SCHEMES:
        raise ConfigurationError(
            f"redis.url has the scheme '{scheme}', which no cache serves.",
            hint="Use redis://host:6379/0, rediss://, unix:// or memory://.",
        )
    # The library takes half a second to import; the embedded form never needs it.
    from app.redis.connections import RedisClients  # noqa: PLC0415 - see above
    from app.redis.store import RedisStore  # noqa: PLC0415 - see above

    return RedisStore(RedisClients(url, settings.timeout_seconds), settings.timeout_seconds)
