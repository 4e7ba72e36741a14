"""Databases by bind name: engines, sessions, base classes, column types and migrations.

A process builds one `Databases` from its settings and installs it; code that is
not handed the object reaches it through the functions here.
"""

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.common.errors import ConfigurationError
from app.db.base import BaseMysql, BasePostgres, BindBase
from app.db.databases import Databases
from app.db.engines import load_drivers

__all__ = [
    "BaseMysql",
    "BasePostgres",
    "BindBase",
    "Databases",
    "create_async_session",
    "get_engine",
    "install",
    "installed",
    "load_drivers",
]

_installed: list[Databases] = []


def install(databases: Databases) -> None:
    """Make these the databases of the process."""
    _installed[:] = [databases]


def installed() -> Databases:
    """Return the databases of the process; raises ConfigurationError before `install`."""
    if not _installed:
        raise ConfigurationError(
            "No databases are installed in this process.",
            hint="Call app.db.install(Databases(settings.databases)) at the start.",
        )
    return _installed[0]


def get_engine(bind: str) -> AsyncEngine:
    """Return the running loop's engine of the bind."""
    return installed().get_engine(bind)


def create_async_session(bind: str) -> AsyncSession:
    """Return a session on the bind; the caller closes it, `Databases.commit` commits it."""
    return installed().create_async_session(bind)
