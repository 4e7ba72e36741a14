"""The store in Redis. Whatever goes wrong there is one thing to the cache: StoreGone."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.redis.connections import RedisClients
from app.redis.errors import NotACounter, StoreGone

_REMOVE_IF_EQUAL = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
)
_NO_COUNTER = ("not an integer", "would overflow", "WRONGTYPE")


class RedisStore:
    """The adapter; every call ends within the time-out, connecting included."""

    kind: Literal["redis"] = "redis"

    def __init__(self, clients: RedisClients, timeout_seconds: float) -> None:
        self._clients = clients
        self._timeout = timeout_seconds

    async def read(self, key: str) -> bytes | None:
        """Return the bytes, None when absent."""
        value: bytes | None = await self._call(lambda client: client.get(key))
        return value

    async def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the bytes of each key, None where absent."""
        return list(await self._call(lambda client: client.mget(keys)))

    async def write(self, key: str, value: bytes, ttl_ms: int) -> None:
        """Keep the bytes."""
        await self._call(lambda client: client.set(key, value, px=ttl_ms))

    async def write_if_absent(self, key: str, value: bytes, ttl_ms: int) -> bool:
        """Keep the bytes unless the key is there."""
        return bool(await self._call(lambda client: client.set(key, value, px=ttl_ms, nx=True)))

    async def remove(self, *keys: str) -> int:
        """Remove the keys; return how many there were."""
        return int(await self._call(lambda client: client.unlink(*keys)))

    async def remove_if_equal(self, key: str, value: bytes) -> None:
        """Remove the key if it still holds these bytes."""
        await self._call(lambda client: client.eval(_REMOVE_IF_EQUAL, 1, key, value))

    async def add(self, key: str, amount: int, ttl_ms: int) -> int:
        """Add to a counter; NotACounter when the key holds something else."""

        async def count(client: Redis) -> int:
            async with client.pipeline(transaction=True) as pipeline:
                pipeline.set(key, 0, px=ttl_ms, nx=True)
                pipeline.incrby(key, amount)
                return int((await pipeline.execute())[1])

        return int(await self._call(count))

    async def has(self, key: str) -> bool:
        """Return whether the key is there."""
        return bool(await self._call(lambda client: client.exists(key)))

    async def set_ttl(self, key: str, ttl_ms: int) -> bool:
        """Set the key's remaining life; return whether it was there."""
        return bool(await self._call(lambda client: client.pexpire(key, ttl_ms)))

    async def close(self) -> None:
        """Close the connections."""
        await self._clients.close()

    async def _call(self, command: Callable[[Redis], Awaitable[Any]]) -> Any:
        try:
            # The library's own time-outs count per step of a connect; this one bounds the whole.
            async with asyncio.timeout(self._timeout):
                return await command(self._clients.current())
        except Exception as error:
            # A store that sends nonsense raises anything; a cache must survive that as well.
            if isinstance(error, ResponseError) and any(t in str(error) for t in _NO_COUNTER):
                raise NotACounter("The key holds a value that is no counter.") from error
            raise StoreGone(f"{type(error).__name__}: {error}") from error
