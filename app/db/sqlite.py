"""SQLite: one file, many processes.

WAL lets readers and one writer work side by side. A transaction takes the write
lock at its start (BEGIN IMMEDIATE): one that read first and wrote later could
fail at the write with nothing left to wait for.
"""

import time
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from app.db.options import DatabaseOptions
from app.db.urls import BindUrl

BUSY_TIMEOUT_SECONDS = 10
_WAL_ATTEMPTS = 50


def async_options(url: BindUrl, options: DatabaseOptions) -> dict[str, Any]:
    """Return the keyword arguments of the asynchronous engine."""
    return sync_options(url, options)


def sync_options(url: BindUrl, options: DatabaseOptions) -> dict[str, Any]:
    """Return the keyword arguments of the synchronous engine."""
    del options
    if url.sqlite_file is not None:
        url.sqlite_file.parent.mkdir(parents=True, exist_ok=True)
    return {"connect_args": {"timeout": BUSY_TIMEOUT_SECONDS}}


def prepare_async(engine: Engine) -> None:
    """Set the pragmas on each connection and the kind of BEGIN on each transaction."""
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin_immediate)


def prepare_sync(engine: Engine, options: DatabaseOptions) -> None:
    """Set the pragmas on each connection and the kind of BEGIN on each transaction."""
    del options
    prepare_async(engine)


def _set_pragmas(dbapi: Any, record: Any) -> None:
    del record
    cursor = dbapi.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = NORMAL")
    _switch_to_wal(cursor)
    cursor.close()


def _switch_to_wal(cursor: Any) -> None:
    """Turn the journal into a WAL; SQLite does not apply the busy timeout to this switch."""
    for attempt in range(_WAL_ATTEMPTS):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except Exception as error:
            if "locked" not in str(error) or attempt == _WAL_ATTEMPTS - 1:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_immediate(connection: Connection) -> None:
    # The option is asked, not the dialect: SQLite itself reports a level that knows no AUTOCOMMIT.
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
