"""The cache over a store: JSON values, jitter, single flight, and a breaker before the store."""

import asyncio
import contextlib
import json
import math
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from app.common.metrics import CACHE_REQUESTS
from app.common.single_flight import SingleFlight
from app.redis.breaker import Breaker
from app.redis.errors import CacheUnavailable, StoreGone
from app.redis.keys import Namespace
from app.redis.port import CacheHealth, CacheStore

_T = TypeVar("_T")
_JITTER = 0.1
# A request waits this long for a probe of a lost store, and no longer.
_PROBE_WAIT_SECONDS = 0.05
_FIRST_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """The cache's sizes and times; all durations in seconds."""

    ttl_seconds: float = 300.0
    lock_seconds: float = 5.0
    max_value_bytes: int = 1 << 20


class _Gone:
    """The answer of a store that did not answer."""


_GONE: Final = _Gone()


@dataclass(frozen=True, slots=True)
class StoreGuard:
    """The only way to the store: counts what fails and keeps callers from waiting for it."""

    store: CacheStore
    breaker: Breaker
    probe_key: str
    _probes: set["asyncio.Task[None]"] = field(default_factory=set)

    async def call(self, command: Callable[[], Awaitable[_T]]) -> _T | _Gone:
        """Return the command's answer, or the mark of a store that is gone."""
        if not await self._admits():
            CACHE_REQUESTS.labels(result="bypass").inc()
            return _GONE
        try:
            return await command()
        except StoreGone as error:
            self.breaker.failed(error)
            CACHE_REQUESTS.labels(result="error").inc()
            return _GONE

    async def probe(self) -> None:
        """Write a tiny key: a store that is read-only or full answers reads all the same."""
        try:
            await self.store.write(self.probe_key, b"1", 1000)
        except BaseException as error:
            # A cancelled probe reports as well, or nobody would be allowed the next one for long.
            self.breaker.failed(error)
            raise
        self.breaker.succeeded()

    async def _admits(self) -> bool:
        if self.breaker.is_closed:
            return True
        if not self.breaker.take_probe():
            return False
        probe = asyncio.create_task(self._probe_quietly(), name="cache probe")
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)
        await asyncio.wait({probe}, timeout=_PROBE_WAIT_SECONDS)
        return self.breaker.is_closed

    async def _probe_quietly(self) -> None:
        with contextlib.suppress(StoreGone):
            await self.probe()


class Cache:
    """The one implementation of CacheClient, over any store."""

    def __init__(
        self,
        guard: StoreGuard,
        names: Namespace,
        limits: CacheLimits | None = None,
        flights: SingleFlight[bytes] | None = None,
    ) -> None:
        self._guard = guard
        self._store = guard.store
        self._names = names
        self._limits = limits or CacheLimits()
        self._flights = flights or SingleFlight()

    async def get(self, key: str) -> object | None:
        """Return the value; None when it is absent or the store is gone."""
        found = await self._look_up(self._names.value(key))
        return json.loads(found) if isinstance(found, bytes) else None

    async def get_many(self, keys: Sequence[str]) -> dict[str, object]:
        """Return the values of the keys that are there; none when the store is gone."""
        if not keys:
            return {}
        names = [self._names.value(key) for key in keys]
        answer = await self._guard.call(lambda: self._store.read_many(names))
        if isinstance(answer, _Gone):
            return {}
        found = {
            key: json.loads(text)
            for key, text in zip(keys, answer, strict=True)
            if text is not None and _is_json(text)
        }
        CACHE_REQUESTS.labels(result="hit").inc(len(found))
        CACHE_REQUESTS.labels(result="miss").inc(len(keys) - len(found))
        return {key: value for key, value in found.items() if value is not None}

    async def set(self, key: str, value: object, ttl_seconds: float | None = None) -> bool:
        """Keep a value; return whether the store took it."""
        return await self._keep(self._names.value(key), _encode(value), ttl_seconds)

    async def delete(self, *keys: str) -> int:
        """Forget the keys; return how many there were."""
        if not keys:
            return 0
        names = [self._names.value(key) for key in keys]
        removed = await self._guard.call(lambda: self._store.remove(*names))
        return 0 if isinstance(removed, _Gone) else removed

    async def incr(self, key: str, amount: int = 1, ttl_seconds: float | None = None) -> int | None:
        """Add to a counter; None when the store is gone."""
        ttl_ms = self._milliseconds(ttl_seconds)
        name = self._names.value(key)
        total = await self._guard.call(lambda: self._store.add(name, amount, ttl_ms))
        return None if isinstance(total, _Gone) else total

    async def exists(self, key: str) -> bool:
        """Return whether the key is there."""
        return await self._guard.call(lambda: self._store.has(self._names.value(key))) is True

    async def expire(self, key: str, ttl_seconds: float) -> bool:
        """Set the key's remaining life; return whether it was there."""
        ttl_ms = self._milliseconds(ttl_seconds)
        name = self._names.value(key)
        return await self._guard.call(lambda: self._store.set_ttl(name, ttl_ms)) is True

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Awaitable[object]],
        ttl_seconds: float | None = None,
    ) -> object:
        """Return the value, or load it once for everybody who asks at the same time."""
        self._milliseconds(ttl_seconds)
        name = self._names.value(key)
        text = await self._look_up(name)
        if text is None:
            text = await self._flights.run(name, lambda: self._load(key, loader, ttl_seconds))
        elif isinstance(text, _Gone):
            text = await self._flights.run(name, lambda: _loaded(loader))
        # Each caller gets a value of its own: changing it changes nobody else's.
        return json.loads(text)

    def namespace(self, name: str, *, version: int = 1) -> "Cache":
        """Return the same cache with its own keys."""
        names = self._names.child(name, version)
        return Cache(self._guard, names, self._limits, self._flights)

    async def ping(self) -> None:
        """Raise CacheUnavailable unless the store takes a write right now."""
        try:
            await self._guard.probe()
        except StoreGone as error:
            raise CacheUnavailable("The cache's store does not take a write.") from error

    async def health(self) -> CacheHealth:
        """Return the state, measured now."""
        started = time.perf_counter()
        try:
            await self._guard.probe()
        except StoreGone as error:
            return CacheHealth(
                "degraded", self._store.kind, self._guard.breaker.state, None, str(error)
            )
        elapsed_ms = (time.perf_counter() - started) * 1000
        return CacheHealth("ok", self._store.kind, self._guard.breaker.state, elapsed_ms)

    async def close(self) -> None:
        """Close the connections."""
        await self._store.close()

    async def _load(
        self, key: str, loader: Callable[[], Awaitable[object]], ttl_seconds: float | None
    ) -> bytes:
        name, lock = self._names.value(key), self._names.lock(key)
        token = secrets.token_hex(16).encode()
        found = await self._lock_or_wait(name, lock, token)
        if isinstance(found, bytes):
            return found
        try:
            text = await _loaded(loader)
            await self._keep(name, text, ttl_seconds)
        finally:
            if found == "locked":
                await self._guard.call(lambda: self._store.remove_if_equal(lock, token))
        return text

    async def _lock_or_wait(
        self, name: str, lock: str, token: bytes
    ) -> bytes | Literal["locked", "unlocked"]:
        """Return the value if another process stores it meanwhile, else who may load it now."""
        lock_ms = int(self._limits.lock_seconds * 1000)
        give_up_at = time.monotonic() + self._limits.lock_seconds
        pause = _FIRST_POLL_SECONDS
        while True:
            locked = await self._guard.call(
                lambda: self._store.write_if_absent(lock, token, lock_ms)
            )
            found = None if isinstance(locked, _Gone) else await self._read(name)
            if isinstance(found, bytes):
                if locked is True:
                    await self._guard.call(lambda: self._store.remove_if_equal(lock, token))
                return found
            if locked is True:
                return "locked"
            if isinstance(locked, _Gone) or time.monotonic() >= give_up_at:
                return "unlocked"
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_POLL_SECONDS)

    async def _look_up(self, name: str) -> bytes | _Gone | None:
        found = await self._read(name)
        if not isinstance(found, _Gone):
            CACHE_REQUESTS.labels(result="miss" if found is None else "hit").inc()
        return found

    async def _read(self, name: str) -> bytes | _Gone | None:
        found = await self._guard.call(lambda: self._store.read(name))
        return found if isinstance(found, _Gone) or _is_json(found) else None

    async def _keep(self, name: str, text: bytes, ttl_seconds: float | None) -> bool:
        spread = 1 - _JITTER * random.random()  # noqa: S311 - it spreads load, it guards nothing
        ttl_ms = max(1, int(self._milliseconds(ttl_seconds) * spread))
        if len(text) > self._limits.max_value_bytes:
            return False
        kept = await self._guard.call(lambda: self._store.write(name, text, ttl_ms))
        return not isinstance(kept, _Gone)

    def _milliseconds(self, ttl_seconds: float | None) -> int:
        seconds = self._limits.ttl_seconds if ttl_seconds is None else ttl_seconds
        if not (seconds > 0 and math.isfinite(seconds)):
            raise ValueError("A cache entry's ttl_seconds must be positive and finite.")
        return max(1, int(seconds * 1000))


async def _loaded(loader: Callable[[], Awaitable[object]]) -> bytes:
    return _encode(await loader())


def _encode(value: object) -> bytes:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise TypeError(f"The cache keeps JSON values only: {error}") from error


def _is_json(text: bytes | None) -> bool:
    # What another program wrote under our key is as good as nothing.
    try:
        json.loads(text or b"")
    except (ValueError, RecursionError):
        return False
    return True
