"""The databases of a process: engines and sessions by bind name, and the place that commits."""

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from app.db.base import bases_by_bind
from app.db.engines import build_async_engine, build_hot_connection, build_sync_engine
from app.db.errors import UnknownBind
from app.db.options import DatabaseOptions
from app.db.urls import BindUrl, Dialect, parse_bind_url

if TYPE_CHECKING:
    from app.db.hot import HotConnection

_LoopEngines = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, AsyncEngine]]


class Databases:
    """Engines and sessions by bind.

    An asynchronous engine belongs to one event loop and a synchronous one to one
    process; both are made on first use. A child process never uses what its
    parent had open: after a fork the object is as good as new.
    """

    def __init__(self, settings: Mapping[str, DatabaseOptions]) -> None:
        self._options = dict(settings)
        self._urls = {
            bind: parse_bind_url(bind, options.url.get_secret_value())
            for bind, options in self._options.items()
        }
        self._lock = threading.Lock()
        self._loop_engines: _LoopEngines = weakref.WeakKeyDictionary()
        self._sync_engines: dict[str, Engine] = {}
        _instances.add(self)

    @property
    def binds(self) -> tuple[str, ...]:
        """The configured names, sorted."""
        return tuple(sorted(self._options))

    def options(self, bind: str) -> DatabaseOptions:
        """Return the bind's settings; raises UnknownBind."""
        self.url(bind)
        return self._options[bind]

    def url(self, bind: str) -> BindUrl:
        """Return the addresses of the bind; raises UnknownBind."""
        try:
            return self._urls[bind]
        except KeyError:
            raise UnknownBind(bind, self._urls) from None

    def dialect(self, bind: str) -> Dialect:
        """Return "postgresql", "mysql" (MariaDB too) or "sqlite"."""
        return self.url(bind).dialect

    def get_engine(self, bind: str) -> AsyncEngine:
        """Return the running event loop's engine; raises RuntimeError outside of a loop."""
        url = self.url(bind)
        loop = asyncio.get_running_loop()
        with self._lock:
            engines = self._loop_engines.setdefault(loop, {})
            if bind not in engines:
                engines[bind] = build_async_engine(url, self._options[bind])
            return engines[bind]

    def get_sync_engine(self, bind: str) -> Engine:
        """Return this process's engine of the bind, for threads that may block."""
        url = self.url(bind)
        with self._lock:
            if bind not in self._sync_engines:
                self._sync_engines[bind] = build_sync_engine(url, self._options[bind])
            return self._sync_engines[bind]

    def hot_connection(self, bind: str) -> "HotConnection":
        """Return a connection of its own for hot statements; the bind must be PostgreSQL."""
        return build_hot_connection(bind, self.get_sync_engine(bind))

    def create_async_session(self, bind: str) -> AsyncSession:
        """Return a session whose plain SQL goes to the bind, and each model to its own."""
        binds: dict[Any, Any] = {base: self.get_engine(name) for name, base in self._bases()}
        return AsyncSession(self.get_engine(bind), binds=binds, expire_on_commit=False)

    def create_session(self, bind: str) -> Session:
        """Return the blocking twin of `create_async_session`."""
        binds: dict[Any, Any] = {base: self.get_sync_engine(name) for name, base in self._bases()}
        return Session(self.get_sync_engine(bind), binds=binds, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self, bind: str) -> AsyncIterator[AsyncSession]:
        """Yield a session; commit at the end, roll back when the block raises."""
        async with self.create_async_session(bind) as session:
            yield session
            await self.commit(session)

    @contextmanager
    def sync_transaction(self, bind: str) -> Iterator[Session]:
        """Yield a blocking session; commit at the end, roll back when the block raises."""
        with self.create_session(bind) as session:
            yield session
            self.commit_sync(session)

    @asynccontextmanager
    async def reading(self, bind: str) -> AsyncIterator[AsyncSession]:
        """Yield a session without a transaction, for reading: each statement stands alone.

        It waits for no writer, on SQLite either, where a transaction takes the write lock.
        """
        self.url(bind)
        # One object per bind: a session takes a connection for each engine that it meets, and one
        # that holds the first while it waits for the second can exhaust the pool.
        engines = {name: self._autocommitting(name) for name in self._options}
        binds: dict[Any, Any] = {base: engines[name] for name, base in self._bases()}
        async with AsyncSession(engines[bind], binds=binds, expire_on_commit=False) as session:
            yield session

    @asynccontextmanager
    async def begin(self, bind: str) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that is committed at the end."""
        async with self.get_engine(bind).begin() as connection:
            yield connection

    @contextmanager
    def sync_begin(self, bind: str) -> Iterator[Connection]:
        """Yield a blocking connection in a transaction that is committed at the end."""
        with self.get_sync_engine(bind).begin() as connection:
            yield connection

    @asynccontextmanager
    async def autocommit(self, bind: str) -> AsyncIterator[AsyncConnection]:
        """Yield a connection on which every statement is its own transaction."""
        async with self.get_engine(bind).connect() as connection:
            yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def sync_autocommit(self, bind: str) -> Iterator[Connection]:
        """Yield a blocking connection on which every statement is its own transaction."""
        with self.get_sync_engine(bind).connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    async def commit(self, session: AsyncSession) -> None:
        """Commit a session that was not opened by `transaction`."""
        await session.commit()

    def commit_sync(self, session: Session) -> None:
        """Commit a blocking session that was not opened by `sync_transaction`."""
        session.commit()

    async def warm_up(self, bind: str) -> None:
        """Open the connections that the pool keeps, one after the other; DatabaseUnavailable when
        the database does not answer.

        The first requests would else open all of them at the same moment, and a machine that is
        short of CPU does not manage that within the time limits.
        """
        async with AsyncExitStack() as opened:
            for _ in range(self.options(bind).pool_size):
                await opened.enter_async_context(self.get_engine(bind).connect())

    async def ping(self, bind: str) -> None:
        """Return when the database answers; raises DatabaseUnavailable."""
        async with self.autocommit(bind) as connection:
            await connection.execute(text("SELECT 1"))

    def ping_sync(self, bind: str) -> None:
        """Return when the database answers; raises DatabaseUnavailable."""
        with self.sync_autocommit(bind) as connection:
            connection.execute(text("SELECT 1"))

    def pool_in_use(self, bind: str) -> int:
        """Return how many connections of the bind this process has in use, over all its loops."""
        self.url(bind)
        with self._lock:
            loops = [engines[bind] for engines in self._loop_engines.values() if bind in engines]
            pools = [engine.sync_engine.pool for engine in loops]
            if bind in self._sync_engines:
                pools.append(self._sync_engines[bind].pool)
        return sum(pool.checkedout() for pool in pools if isinstance(pool, QueuePool))

    async def dispose(self) -> None:
        """Close the running loop's connections; a later use opens new ones."""
        with self._lock:
            engines = self._loop_engines.pop(asyncio.get_running_loop(), {})
        for engine in engines.values():
            await engine.dispose()

    def dispose_sync(self) -> None:
        """Close the connections of the blocking engines; a later use opens new ones."""
        with self._lock:
            engines, self._sync_engines = self._sync_engines, {}
        for engine in engines.values():
            engine.dispose()

    def _autocommitting(self, bind: str) -> AsyncEngine:
        return self.get_engine(bind).execution_options(isolation_level="AUTOCOMMIT")

    def _bases(self) -> Iterator[tuple[str, type]]:
        return ((bind, base) for bind, base in bases_by_bind() if bind in self._options)

    def _leave_to_parent(self) -> None:
        # The parent's connections stay referenced for ever, because closing
        # one here would say goodbye on the socket that the parent still uses.
        _inherited.append((self._loop_engines, self._sync_engines))
        self._lock = threading.Lock()
        self._loop_engines = weakref.WeakKeyDictionary()
        self._sync_engines = {}


_instances: weakref.WeakSet[Databases] = weakref.WeakSet()
_inherited: list[object] = []


def _after_fork_in_child() -> None:
    for databases in list(_instances):
        databases._leave_to_parent()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_after_fork_in_child)
