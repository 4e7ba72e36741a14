"""The cache: a help that nothing depends on. Only this room imports the library `redis`."""

from app.redis.blocking import BlockingCache
from app.redis.cache import open_cache
from app.redis.errors import CacheUnavailable, NotACounter
from app.redis.port import CacheClient, CacheHealth

__all__ = [
    "BlockingCache",
    "CacheClient",
    "CacheHealth",
    "CacheUnavailable",
    "NotACounter",
    "open_cache",
]
