"""The cache: a help that nothing depends on. Only this room imports the library `redis`."""

from app.redis.cache import open_cache
from app.redis.port import CacheClient

__all__ = ["CacheClient", "open_cache"]
