"""Brakes on guessing passwords: failed logins per account and per address.

The counts live in Redis when there is one, so that all API processes share them,
and else in this process. When Redis is gone this process counts for itself.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.storage import storage_from_string

from app.auth.errors import TooManyLogins
from app.common.logging import get_logger

ADDRESS_FACTOR = 5
"""An address may fail this many times as often as an account: people share addresses."""
_WINDOW_SECONDS = 60
_STORE_SECONDS = 0.5
_BYPASS_SECONDS = 30.0

_T = TypeVar("_T")

log = get_logger(__name__)


class LoginThrottle:
    """Counts failed logins; a successful one clears its account's count."""

    def __init__(self, attempts_per_minute: int, redis_url: str | None = None) -> None:
        self._account = RateLimitItemPerMinute(attempts_per_minute, namespace="taskyard-account")
        self._address = RateLimitItemPerMinute(
            attempts_per_minute * ADDRESS_FACTOR, namespace="taskyard-address"
        )
        self._local = MovingWindowRateLimiter(MemoryStorage())
        self._shared = MovingWindowRateLimiter(_open_shared(redis_url)) if redis_url else None
        self._bypass_until = 0.0

    async def enter(self, account: str, address: str) -> None:
        """Count an attempt on the account; raises TooManyLogins with the seconds to wait.

        It is counted before the password is looked at: of many attempts at one
        time no more get through than the limit.
        """
        if not await self._do(lambda limiter: limiter.test(self._address, _key(address))):
            raise await self._refusal(self._address, address)
        if not await self._do(lambda limiter: limiter.hit(self._account, _key(account))):
            raise await self._refusal(self._account, account)

    async def failed(self, address: str) -> None:
        """Count a failed attempt on the address."""
        await self._do(lambda limiter: limiter.hit(self._address, _key(address)))

    async def succeeded(self, account: str) -> None:
        """Forget the attempts on the account."""
        await self._do(lambda limiter: limiter.clear(self._account, _key(account)))

    async def _refusal(self, item: RateLimitItemPerMinute, name: str) -> TooManyLogins:
        stats = await self._do(lambda limiter: limiter.get_window_stats(item, _key(name)))
        wait = min(max(1, round(stats.reset_time - time.time() + 0.5)), _WINDOW_SECONDS)
        return TooManyLogins(
            retry_after_seconds=wait, limit=item.amount, window_seconds=_WINDOW_SECONDS
        )

    async def _do(self, action: Callable[[MovingWindowRateLimiter], Awaitable[_T]]) -> _T:
        """Act on the shared counts, or on our own while the store is gone."""
        if self._shared is not None and time.monotonic() >= self._bypass_until:
            try:
                async with asyncio.timeout(_STORE_SECONDS):
                    return await action(self._shared)
            except Exception as error:  # noqa: BLE001 - whatever the store does, logins go on
                self._bypass_until = time.monotonic() + _BYPASS_SECONDS
                log.warning("auth.throttle_store_gone", error_type=type(error).__name__)
        return await action(self._local)


def _open_shared(redis_url: str) -> Storage:
    storage = storage_from_string(f"async+{redis_url}", implementation="redispy")
    assert isinstance(storage, Storage)  # noqa: S101 - the scheme async+ gives this kind
    return storage


def _key(name: str) -> str:
    # A name comes from outside: it may be long, and must not collide with the key's own syntax.
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
