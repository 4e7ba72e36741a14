"""What can go wrong with the cache. Apart from a ping, a lost store never reaches the caller."""

from app.common.errors import ServiceUnavailable


class CacheUnavailable(ServiceUnavailable):
    """The cache's store does not answer; everything works without it, only slower."""

    code = "CACHE_UNAVAILABLE"
    title = "Cache unavailable"


class StoreGone(Exception):
    """The store cannot serve: refused, frozen, read-only, full, loading. Never leaves this room."""


class NotACounter(ValueError):
    """The key holds a value that cannot be counted up, or the sum leaves 64 bits."""
