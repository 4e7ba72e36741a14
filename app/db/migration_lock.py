"""One migration run at a time per database, however many processes start one.

The lock lives in the database and goes with the connection, so a process that
dies in the middle leaves no lock behind.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from app.db.errors import DatabaseBusy
from app.db.urls import Dialect

LOCK_SECONDS = 120.0
"""How long a run waits for another run."""
LOCK_TIMEOUT_SECONDS = 10
"""How long one statement waits for a table that the application is using."""
STATEMENT_TIMEOUT_SECONDS = 600.0
"""How long one statement of a migration may take."""

_ADVISORY_KEY = 0x7461736B79617264  # "taskyard" in ASCII
_POLL_SECONDS = 0.2


@contextmanager
def exclusive(
    connection: Connection, dialect: Dialect, bind: str, *, wait_seconds: float = LOCK_SECONDS
) -> Iterator[None]:
    """Hold the database's migration lock; DatabaseBusy when another run keeps it too long."""
    if dialect == "postgresql":
        acquire, release = _POSTGRES
        prepare = f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"
    elif dialect == "mysql":
        acquire, release = _MYSQL
        prepare = f"SET SESSION lock_wait_timeout = {LOCK_TIMEOUT_SECONDS}"
    else:
        with _sqlite_transaction(connection):
            yield
        return
    connection.execute(text(prepare))
    _wait(connection, acquire, bind, wait_seconds)
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text(release), {"key": _ADVISORY_KEY})
        connection.commit()


_POSTGRES = ("SELECT pg_try_advisory_lock(:key)", "SELECT pg_advisory_unlock(:key)")
# GET_LOCK is one name space for the whole server, so the database's name is part of it.
_MYSQL = (
    "SELECT GET_LOCK(CONCAT('taskyard.', :key, '.', MD5(DATABASE())), 0)",
    "SELECT RELEASE_LOCK(CONCAT('taskyard.', :key, '.', MD5(DATABASE())))",
)


def _wait(connection: Connection, acquire: str, bind: str, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while not connection.execute(text(acquire), {"key": _ADVISORY_KEY}).scalar_one():
        connection.commit()
        if time.monotonic() >= deadline:
            raise DatabaseBusy(bind)
        time.sleep(_POLL_SECONDS)
    connection.commit()


@contextmanager
def _sqlite_transaction(connection: Connection) -> Iterator[None]:
    """Run in one transaction, which is SQLite's lock.

    A table that is made anew would take the rows that refer to it along, so
    foreign keys are off meanwhile and checked before the commit.
    """
    _set_foreign_keys(connection, on=False)
    try:
        with connection.begin():
            yield
            broken = connection.execute(text("PRAGMA foreign_key_check")).all()
            if broken:
                message = f"the migration broke {len(broken)} references between tables"
                raise RuntimeError(message)
    finally:
        _set_foreign_keys(connection, on=True)


def _set_foreign_keys(connection: Connection, *, on: bool) -> None:
    # The pragma does nothing inside a transaction, so it goes past SQLAlchemy's own.
    driver = connection.connection.dbapi_connection
    if driver is not None:
        driver.cursor().execute(f"PRAGMA foreign_keys = {'ON' if on else 'OFF'}")
