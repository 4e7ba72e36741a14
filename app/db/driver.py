"""One statement on the driver's own connection, for the few that are made for every run.

asyncpg alone takes a seventh of the CPU that the same statement takes through SQLAlchemy, which
still writes the statement, keeps the pool and hands out the connection.
"""

from typing import Any, Final

from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.sql.elements import ClauseElement

from app.db.databases import Databases
from app.db.errors import DatabaseUnavailable
from app.db.faults import classify

_DIALECT: Final = asyncpg.dialect()  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy


def text_of(statement: ClauseElement) -> str:
    """Return the SQL of a statement; its parameters are `$1`, `$2` in the order of their places."""
    return str(statement.compile(dialect=_DIALECT))


async def fetch(databases: Databases, bind: str, text: str, *values: Any) -> list[Any]:
    """Execute a statement of PostgreSQL as a transaction of its own; return its rows.

    Raises DatabaseUnavailable and its kin for what passes, the driver's own error for what does
    not; then nothing was done.
    """
    async with databases.get_engine(bind).connect() as connection:
        raw: Any = (await connection.get_raw_connection()).driver_connection
        try:
            rows: list[Any] = await raw.fetch(text, *values)
        except Exception as error:
            if isinstance(error, TimeoutError) or raw.is_closed():
                await connection.invalidate(error)
            fault = fault_of(error, bind, raw)
            if fault is None:
                raise
            raise fault from error
        return rows


def fault_of(error: Exception, bind: str, raw: Any) -> DatabaseUnavailable | None:
    """Return our error for what the driver raised on this connection; None when it does not pass.

    Nothing else translates the faults of a driver that is used past SQLAlchemy.
    """
    kind = classify(error) or (DatabaseUnavailable if raw.is_closed() else None)
    return None if kind is None else kind(bind)
