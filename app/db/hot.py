"""One blocking PostgreSQL connection for the few statements that every run needs.

SQLAlchemy writes a statement once; from then on its text goes straight to the driver, prepared and
planned once, each execution a transaction of its own. That leaves a tenth of the CPU that the same
statement costs through an asynchronous engine, in this process and in the server.
"""

import os
from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.string import TextLoader
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ClauseElement

from app.db.errors import DatabaseUnavailable
from app.db.faults import classify
from app.db.postgres import has_news

_DIALECT: Final = postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy
# The plan of a hot statement is the same for all its values: a look-up by key. Left to itself the
# server plans each execution anew, and takes to small partial indexes that are full of dead rows.
_PLAN_ONCE: Final = "SET plan_cache_mode = force_generic_plan"

Row = Any  # A named tuple of the driver's values; a uuid is text.


class HotConnection:
    """Executes statements for one thread; it connects on first use, and anew after a fault."""

    def __init__(self, bind: str, engine: Engine) -> None:
        self._bind = bind
        self._engine = engine
        self._texts: dict[ClauseElement, tuple[str, Mapping[str, Any]]] = {}
        self._connection: psycopg.Connection[Any] | None = None
        self._pid = 0

    def execute(self, statement: ClauseElement, values: Mapping[str, Any]) -> list[Row]:
        """Return the rows that the statement returns; when this returns it is committed.

        `values` are the driver's: JSON is text. Raises DatabaseUnavailable and its kin for what
        passes, DBAPIError for what does not.
        """
        text, constants = self.text_of(statement, values)
        connection = self._open()
        try:
            with connection.cursor(row_factory=namedtuple_row) as cursor:
                cursor.execute(text, {**constants, **values}, prepare=True)
                return cursor.fetchall()
        except psycopg.Error as error:
            is_lost = connection.closed or connection.broken
            if is_lost:
                self.close()
            kind = classify(error) or (DatabaseUnavailable if is_lost else None)
            if kind is not None:
                raise kind(self._bind) from error
            raise DBAPIError(text, None, error, hide_parameters=True) from error
        except BaseException:
            # A signal's exception leaves the connection in the middle of an answer.
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection; the next statement opens another."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            connection.close()

    def text_of(
        self, statement: ClauseElement, values: Mapping[str, Any]
    ) -> tuple[str, Mapping[str, Any]]:
        """Return the SQL that `execute` sends, and the values that the statement brings itself."""
        known = self._texts.get(statement)
        if known is None:
            # With the values of the first use, because lists of constants are written out then.
            compiled: Any = statement.compile(dialect=_DIALECT)
            state = compiled.construct_expanded_state(values)
            constants = {name: _plain(value) for name, value in state.parameters.items()}
            known = self._texts[statement] = (state.statement, constants)
        return known

    def _open(self) -> psycopg.Connection[Any]:
        if self._pid != os.getpid():
            # A parent's connection stays the parent's.
            self._connection = None
        elif self._connection is not None and (
            self._connection.closed or has_news(self._connection.fileno())
        ):
            self.close()
        if self._connection is None:
            self._connection = self._connect()
            self._pid = os.getpid()
        return self._connection

    def _connect(self) -> psycopg.Connection[Any]:
        # From the engine, with its time limits; the pool keeps no track of it.
        try:
            pooled = self._engine.raw_connection()
            driver: Any = pooled.driver_connection
            connection: psycopg.Connection[Any] = driver
            pooled.detach()
            connection.autocommit = True
            connection.execute(_PLAN_ONCE)
        except psycopg.Error as error:
            raise DatabaseUnavailable(self._bind) from error
        connection.adapters.register_loader("uuid", TextLoader)
        return connection


def _plain(value: Any) -> Any:
    # The driver would write the name of an enum's member, and takes longer for it.
    return str(value) if isinstance(value, str) else value
