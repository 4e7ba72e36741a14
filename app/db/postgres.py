"""PostgreSQL: connection options, and a bound on every wait.

The server ends a slow statement. A server that is stopped, or a network that
swallows packets, ends nothing: there the client gives up, a little later.
"""

import math
import select
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import psycopg
from psycopg.abc import PQGen
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DisconnectionError

from app.db.errors import DatabaseUnavailable
from app.db.options import DatabaseOptions, silence_seconds
from app.db.urls import BindUrl

_RV = TypeVar("_RV")


def async_options(url: BindUrl, options: DatabaseOptions) -> dict[str, Any]:
    """Return the keyword arguments of the asynchronous engine."""
    connector = _AsyncpgConnector(url.bind, options)
    return {
        "connect_args": {
            "async_creator_fn": connector,
            "server_settings": _server_settings(options),
        },
    }


def sync_options(url: BindUrl, options: DatabaseOptions) -> dict[str, Any]:
    """Return the keyword arguments of the synchronous engine."""
    del url
    settings = " ".join(f"-c {name}={value}" for name, value in _server_settings(options).items())
    return {
        "connect_args": {
            "connect_timeout": math.ceil(options.connect_timeout_seconds),
            "options": settings,
        },
    }


def prepare_async(engine: Engine) -> None:
    """Drop connections that the server has closed before they are handed out.

    asyncpg reads the socket while its loop runs, which in a worker is only during a task; what
    came since is still unread. Looking costs no round trip; a ping would.
    """

    @event.listens_for(engine, "checkout")
    def _refuse_closed(dbapi: Any, record: Any, proxy: Any) -> None:
        del dbapi, proxy
        connection = record.driver_connection
        if connection.is_closed() or has_news(_socket_of(connection).fileno()):
            raise DisconnectionError


def has_news(descriptor: int) -> bool:
    """Return whether an idle connection has something to read: the server says good-bye."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _socket_of(connection: Any) -> Any:
    return connection._transport.get_extra_info("socket")  # noqa: SLF001 - asyncpg has no public name for it


def prepare_sync(engine: Engine, options: DatabaseOptions) -> None:
    """Open connections whose every wait has an end, and drop those that the server has closed
    before they are handed out: by a look as well, since an idle worker would mostly ping.
    """
    silence = silence_seconds(options)

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, record: Any, args: Any, arguments: Any) -> Any:
        del dialect, record
        connection = BoundedPsycopg.connect(*args, **arguments)
        connection.silence_seconds = silence
        return connection

    @event.listens_for(engine, "checkout")
    def _refuse_closed(dbapi: Any, record: Any, proxy: Any) -> None:
        del record, proxy
        if dbapi.closed or has_news(dbapi.fileno()):
            raise DisconnectionError


class BoundedPsycopg(psycopg.Connection[Any]):
    """A psycopg connection that gives up, and closes, when the server stays silent."""

    silence_seconds: float = 60.0

    def wait(self, gen: PQGen[_RV], interval: float = 0.1, timeout: float | None = None) -> _RV:
        """Return the generator's value; raises OperationalError after the longest wait allowed."""
        try:
            return super().wait(gen, interval, timeout or self.silence_seconds)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 - the library has no public name for it
            self.pgconn.finish()
            message = "the server did not answer in time"
            raise psycopg.OperationalError(message) from None


class _AsyncpgConnector:
    """Opens asyncpg connections; one that cannot be opened is DatabaseUnavailable."""

    def __init__(self, bind: str, options: DatabaseOptions) -> None:
        self._bind = bind
        self._limits = {
            "timeout": options.connect_timeout_seconds,
            "command_timeout": silence_seconds(options),
        }

    async def __call__(self, *args: Any, **options: Any) -> Any:
        try:
            return await asyncpg.connect(*args, **{**self._limits, **options})
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            raise DatabaseUnavailable(self._bind) from error


def _server_settings(options: DatabaseOptions) -> dict[str, str]:
    milliseconds = str(round(options.statement_timeout_seconds * 1000))
    return {
        "application_name": "taskyard",
        "timezone": "UTC",
        "statement_timeout": milliseconds,
        # Our statements are short; compiling them costs more than it saves.
        "jit": "off",
    }
