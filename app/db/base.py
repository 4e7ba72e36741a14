"""Declarative bases, one per bind.

A model inherits the base of the database that its table lives in. A further
database gets a base of its own in the plugin that uses it::

    class BaseReports(BindBase, DeclarativeBase):
        __bind_name__ = "reports"
        metadata = new_metadata()
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from sqlalchemy import MetaData, Table
from sqlalchemy.orm import DeclarativeBase

CORE_OWNER = "core"
_PLUGINS = "app.plugins."
_CORE = "app."

_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

_bases: dict[str, type[DeclarativeBase]] = {}


def new_metadata() -> MetaData:
    """Return a MetaData with the naming convention, so that migrations can name what they drop."""
    return MetaData(naming_convention=_NAMING)


class BindBase:
    """What makes a declarative base the base of a bind, and says who owns each table."""

    __bind_name__: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if issubclass(cls, DeclarativeBase) and DeclarativeBase in cls.__bases__:
            _bases[cls.__bind_name__] = cls
        table = cls.__dict__.get("__table__")
        if isinstance(table, Table):
            table.info.setdefault("module", cls.__module__)
            table.info.setdefault("owner", owner_of_module(cls.__module__))


class BasePostgres(BindBase, DeclarativeBase):
    """Tables of the application database, bind ``postgres_main``."""

    __bind_name__ = "postgres_main"
    metadata = new_metadata()


class BaseMysql(BindBase, DeclarativeBase):
    """Tables of the lint database, bind ``mysql_lint``."""

    __bind_name__ = "mysql_lint"
    metadata = new_metadata()


def owner_of_module(module: str) -> str:
    """Return who owns the tables of a module: "core", a built-in plugin, or another top package."""
    if module.startswith(_PLUGINS):
        return module.removeprefix(_PLUGINS).partition(".")[0]
    return CORE_OWNER if module.startswith(_CORE) else module.partition(".")[0]


def bases_by_bind() -> Iterator[tuple[str, type[DeclarativeBase]]]:
    """Yield each bind that has a declarative base, with the base."""
    yield from list(_bases.items())
