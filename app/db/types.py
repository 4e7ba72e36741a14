"""Column types and clock expressions with one meaning on PostgreSQL, MySQL, MariaDB and SQLite."""

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import CHAR, JSON, ColumnElement, DateTime, Dialect, Double, Uuid, literal
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from app.common.ids import parse_id

_MYSQL_MOMENT = mysql.DATETIME(fsp=6)
_SQLITE_MOMENT = sqlite.DATETIME()  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy


class IdType(TypeDecorator[str]):
    """An id as 36 characters of text; a native uuid on PostgreSQL and CHAR(36) elsewhere."""

    impl = CHAR(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the native type where there is one."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Uuid(as_uuid=False))
        return dialect.type_descriptor(CHAR(36))

    def process_bind_param(self, value: str | uuid.UUID | None, dialect: Dialect) -> str | None:
        """Return the canonical text; raises ValueError for what is no id."""
        del dialect
        return None if value is None else parse_id(str(value))

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """Return the canonical text."""
        del dialect
        return None if value is None else str(value)

    def matches(self, dialect: Dialect, reflected: TypeEngine[Any]) -> bool:
        """Return whether the reflected column is of this type."""
        if dialect.name == "postgresql":
            return isinstance(reflected, Uuid)
        return isinstance(reflected, CHAR) and reflected.length == 36


class UTCDateTime(TypeDecorator[datetime]):
    """A moment in UTC with microseconds; Python sees aware datetimes only.

    SQLite keeps text of one width with six digits, so that texts compare as times do.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type with microseconds of each dialect."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        if dialect.name in {"mysql", "mariadb"}:
            return dialect.type_descriptor(_MYSQL_MOMENT)
        return dialect.type_descriptor(_SQLITE_MOMENT)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC; raises ValueError for a naive datetime."""
        if value is None:
            return None
        if value.tzinfo is None:
            message = "a naive datetime names no moment; use app.common.clock.utc_now()"
            raise ValueError(message)
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment as an aware datetime in UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def matches(self, dialect: Dialect, reflected: TypeEngine[Any]) -> bool:
        """Return whether the reflected column is of this type."""
        if dialect.name == "postgresql":
            return isinstance(reflected, DateTime) and reflected.timezone
        if dialect.name in {"mysql", "mariadb"}:
            return isinstance(reflected, mysql.DATETIME) and reflected.fsp == 6
        return isinstance(reflected, DateTime)


class JsonType(TypeDecorator[Any]):
    """A JSON value; None is SQL's NULL. On PostgreSQL it is JSONB when ``jsonb`` is true."""

    impl = JSON
    cache_ok = True

    def __init__(self, *, jsonb: bool = False) -> None:
        super().__init__(none_as_null=True)
        self.jsonb = jsonb

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return JSONB on PostgreSQL when asked for, else JSON."""
        if dialect.name == "postgresql" and self.jsonb:
            return dialect.type_descriptor(postgresql.JSONB(none_as_null=True))
        return dialect.type_descriptor(JSON(none_as_null=True))

    def matches(self, dialect: Dialect, reflected: TypeEngine[Any]) -> bool:
        """Return whether the reflected column is of this type."""
        if dialect.name == "postgresql":
            return isinstance(reflected, postgresql.JSONB if self.jsonb else postgresql.JSON)
        # MariaDB keeps JSON as LONGTEXT with a check.
        return isinstance(reflected, JSON | mysql.LONGTEXT)


def now_sql(dialect: str) -> str:
    """Return the SQL of the database's clock, for statements that are written by hand.

    It is the start of the statement, not of the transaction: a lease that is
    renewed late in a long transaction must not count from its beginning.
    """
    if dialect == "postgresql":
        return "statement_timestamp()"
    if dialect in {"mysql", "mariadb"}:
        return "(UTC_TIMESTAMP(6))"
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"


def now_plus_sql(dialect: str, seconds: str) -> str:
    """Return the SQL of the database's clock plus ``seconds``, itself SQL such as ``:delay``."""
    if dialect == "postgresql":
        return f"(statement_timestamp() + make_interval(secs => {seconds}))"
    if dialect in {"mysql", "mariadb"}:
        return f"TIMESTAMPADD(MICROSECOND, ROUND(({seconds}) * 1000000), UTC_TIMESTAMP(6))"
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%+.6f seconds', {seconds})) || '000')"


class db_now(FunctionElement[datetime]):  # noqa: N801 - it reads as a SQL function
    """The database's clock at the start of the statement."""

    type = UTCDateTime()
    inherit_cache = True


class db_now_plus(FunctionElement[datetime]):  # noqa: N801 - it reads as a SQL function
    """The database's clock plus a number of seconds, a float or an expression; may be negative."""

    type = UTCDateTime()
    inherit_cache = True

    def __init__(self, seconds: float | ColumnElement[Any]) -> None:
        super().__init__(
            literal(seconds, Double()) if isinstance(seconds, int | float) else seconds
        )


@compiles(db_now)
def _compile_now(element: db_now, compiler: SQLCompiler, **options: Any) -> str:
    del element, options
    return _escaped(now_sql(compiler.dialect.name), compiler)


@compiles(db_now_plus)
def _compile_now_plus(element: db_now_plus, compiler: SQLCompiler, **options: Any) -> str:
    marker = "\x00"
    sql = _escaped(now_plus_sql(compiler.dialect.name, marker), compiler)
    return sql.replace(marker, compiler.process(element.clauses, **options))


def _escaped(sql: str, compiler: SQLCompiler) -> str:
    # Drivers with %s placeholders read a per cent sign as the start of one.
    return sql.replace("%", "%%") if compiler.preparer._double_percents else sql  # noqa: SLF001 - no public name
