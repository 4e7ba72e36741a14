"""How Alembic looks at a unit; `migrations/env.py` and the drift check share it."""

from typing import Any, Literal

from alembic.autogenerate.api import AutogenContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Connection, Table
from sqlalchemy.types import TypeEngine

from app.db.migration_units import Unit
from app.db.types import IdType, JsonType, UTCDateTime, db_now


def context_options(unit: Unit, connection: Connection) -> dict[str, Any]:
    """Return the keyword arguments of ``context.configure`` for the unit."""
    dialect = connection.dialect.name
    names = {table.name for table in unit.tables()}

    def include_name(name: str | None, kind: str, parents: Any) -> bool:
        del parents
        return kind != "table" or name in names

    def include_object(item: Any, name: str | None, kind: str, *rest: Any) -> bool:
        del name, rest
        return kind != "table" or not isinstance(item, Table) or item.name in names

    return {
        "target_metadata": unit.metadata,
        "version_table": unit.version_table,
        "include_name": include_name,
        "include_object": include_object,
        "compare_type": _type_differs,
        "render_item": _render,
        # PostgreSQL keeps what was done before a revision that fails; SQLite
        # holds its one lock, and so its one transaction, for the whole run.
        "transaction_per_migration": dialect != "sqlite",
        # SQLite changes a column by making the table anew.
        "render_as_batch": dialect == "sqlite",
    }


def _render(kind: str, item: Any, context: AutogenContext) -> str | Literal[False]:
    """Write our own types and clock as the template imports them; False leaves it to Alembic."""
    del context
    if kind == "type" and isinstance(item, JsonType):
        return "JsonType(jsonb=True)" if item.jsonb else "JsonType()"
    if kind == "type" and isinstance(item, IdType | UTCDateTime):
        return f"{type(item).__name__}()"
    if kind == "server_default" and isinstance(getattr(item, "arg", None), db_now):
        return "db_now()"
    return False


def _type_differs(
    context: MigrationContext,
    inspected_column: Column[Any],
    metadata_column: Column[Any],
    inspected_type: TypeEngine[Any],
    metadata_type: TypeEngine[Any],
) -> bool | None:
    """Return whether the column's type drifted; None leaves it to Alembic."""
    del inspected_column, metadata_column
    if isinstance(metadata_type, IdType | UTCDateTime | JsonType):
        return not metadata_type.matches(context.dialect, inspected_type)
    return None
