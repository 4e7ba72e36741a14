"""Connections to Redis: one client per event loop, short time-outs, no retries of its own."""

import asyncio
import os
import threading
from weakref import WeakKeyDictionary

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

_MAX_CONNECTIONS = 32
_Clients = WeakKeyDictionary[asyncio.AbstractEventLoop, Redis]


class RedisClients:
    """A connection belongs to the loop that opened it, so every loop gets a client of its own."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._url = url
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._clients: _Clients = WeakKeyDictionary()
        self._of_parents: list[_Clients] = []

    def current(self) -> Redis:
        """Return the running loop's client; it connects on its first command, again when cut."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._pid != os.getpid():
                # The parent's sockets are kept untouched: closing one here would end it there too.
                self._of_parents.append(self._clients)
                self._clients = WeakKeyDictionary()
                self._pid = os.getpid()
            client = self._clients.get(loop)
            if client is None:
                client = self._clients[loop] = self._open()
            return client

    def _open(self) -> Redis:
        pool = BlockingConnectionPool.from_url(
            self._url,
            max_connections=_MAX_CONNECTIONS,
            timeout=self._timeout,
            # Each command is bounded by its caller. The library's own time-out goes through
            # asyncio.wait_for, which loses a cancellation on Python 3.11.
            socket_timeout=None,
            socket_connect_timeout=self._timeout,
            legacy_responses=False,
            # With these notices on, the pool would no longer look whether a connection is cut.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            # The pool sees a cut connection before it lends it out; a request that fails
            # all the same goes on without the cache, which costs less than another try.
            retry=Retry(NoBackoff(), 0),
        )
        return Redis.from_pool(pool)

    async def close(self) -> None:
        """Close this loop's client; other loops go on, and close theirs when they end."""
        with self._lock:
            client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
