"""MySQL and MariaDB: connection options, and a bound on every wait (see `app.db.postgres`)."""

import asyncio
import math
from typing import Any

import aiomysql
from pymysql.constants import CR
from sqlalchemy.engine import Engine

from app.db.errors import DatabaseUnavailable
from app.db.options import DatabaseOptions, silence_seconds
from app.db.urls import BindUrl

_SQL_MODE = (
    "STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
)


def async_options(url: BindUrl, options: DatabaseOptions) -> dict[str, Any]:
    """Return the keyword arguments of the asynchronous engine."""
    connector = _AiomysqlConnector(url.bind, options)
    return {
        "connect_args": {**_session(options), "async_creator_fn": connector},
        "isolation_level": "READ COMMITTED",
        "pool_pre_ping": True,
    }


def sync_options(url: BindUrl, options: DatabaseOptions) -> dict[str, Any]:
    """Return the keyword arguments of the synchronous engine."""
    del url
    silence = math.ceil(silence_seconds(options))
    timeouts = {
        "connect_timeout": math.ceil(options.connect_timeout_seconds),
        "read_timeout": silence,
        "write_timeout": silence,
    }
    return {
        "connect_args": {**_session(options), **timeouts},
        "isolation_level": "READ COMMITTED",
        "pool_pre_ping": True,
    }


def prepare_async(engine: Engine) -> None:
    """Nothing to prepare: the options say it all."""
    del engine


def prepare_sync(engine: Engine, options: DatabaseOptions) -> None:
    """Nothing to prepare: the options say it all."""
    del engine, options


class BoundedAiomysql(aiomysql.Connection):  # type: ignore[misc] # aiomysql has no type hints
    """An aiomysql connection that gives up, and closes, when the server stays silent."""

    def __init__(self, *args: Any, silence_seconds: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._silence_seconds = silence_seconds

    async def _read_bytes(self, num_bytes: int) -> bytes:
        try:
            async with asyncio.timeout(self._silence_seconds):
                data: bytes = await super()._read_bytes(num_bytes)
        except TimeoutError as error:
            self.close()
            message = "the server did not answer in time"
            raise aiomysql.OperationalError(CR.CR_SERVER_LOST, message) from error
        return data


class _AiomysqlConnector:
    """Opens bounded aiomysql connections; one that cannot be opened is DatabaseUnavailable."""

    def __init__(self, bind: str, options: DatabaseOptions) -> None:
        self._bind = bind
        self._connect_seconds = options.connect_timeout_seconds
        self._silence_seconds = silence_seconds(options)

    async def __call__(self, *args: Any, **options: Any) -> Any:
        connection = BoundedAiomysql(*args, silence_seconds=self._silence_seconds, **options)
        try:
            async with asyncio.timeout(self._connect_seconds):
                await connection._connect()  # noqa: SLF001 - aiomysql.connect() can only build its own class
        except (OSError, TimeoutError, aiomysql.OperationalError) as error:
            connection.close()
            raise DatabaseUnavailable(self._bind) from error
        return connection


def _session(options: DatabaseOptions) -> dict[str, Any]:
    seconds = options.statement_timeout_seconds
    # MariaDB and MySQL call the limit by two names; each reads only its own comment.
    statement = (
        f"SET time_zone='+00:00', sql_mode='{_SQL_MODE}',"
        f" innodb_lock_wait_timeout={max(1, round(seconds))}"
        f" /*M!100101 , max_statement_time={seconds} */"
        f" /*!50708 , max_execution_time={round(seconds * 1000)} */"
    )
    return {"charset": "utf8mb4", "init_command": statement}
