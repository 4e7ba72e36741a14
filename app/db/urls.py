"""Database URLs: which ones are accepted, and the synchronous twin of each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.db.errors import DatabaseUrlError

Dialect = Literal["postgresql", "mysql", "sqlite"]

_DIALECTS: dict[str, Dialect] = {
    "postgresql": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
}
_SYNC_DRIVERS = {
    "postgresql+asyncpg": "postgresql+psycopg",
    "mysql+aiomysql": "mysql+pymysql",
    "mariadb+aiomysql": "mariadb+pymysql",
    "sqlite+aiosqlite": "sqlite+pysqlite",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class BindUrl:
    """One bind's addresses, parsed. The URLs print with their password masked."""

    bind: str
    dialect: Dialect
    async_url: URL
    sync_url: URL

    @property
    def sqlite_file(self) -> Path | None:
        """The absolute path of the database file; None for a server."""
        return Path(self.async_url.database or "") if self.dialect == "sqlite" else None


def parse_bind_url(bind: str, text: str) -> BindUrl:
    """Return the addresses of a bind from its configured, asynchronous URL.

    A relative SQLite path is fixed here against the working directory, so a
    later chdir moves nothing. Raises DatabaseUrlError, which never shows the URL.
    """
    url = _read(bind, text)
    dialect = _DIALECTS[url.get_backend_name()]
    if dialect == "sqlite":
        url = url.set(database=str(_sqlite_path(bind, url)))
    return BindUrl(bind=bind, dialect=dialect, async_url=url, sync_url=_sync_twin(url))


def _read(bind: str, text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        # The original error is cut off because it may quote the password.
        message = f"The URL of the database '{bind}' cannot be read."
        raise DatabaseUrlError(
            message, hint="Write driver://user:password@host:port/name."
        ) from None
    if url.drivername not in _SYNC_DRIVERS:
        accepted = ", ".join(f"{name}://" for name in sorted(_SYNC_DRIVERS))
        message = f"The database '{bind}' has a URL of the driver '{url.drivername}'."
        raise DatabaseUrlError(message, hint=f"Write it as one of {accepted}.")
    return url


def _sqlite_path(bind: str, url: URL) -> Path:
    name = url.database or ""
    if name in {"", ":memory:"} or name.startswith("file:"):
        # A database in memory belongs to one connection, so the migrations,
        # the API and the workers would each see another, empty one.
        message = f"The SQLite database '{bind}' needs a file."
        raise DatabaseUrlError(message, hint="Write sqlite+aiosqlite:///folder/name.db.")
    return Path(name).absolute()


def _sync_twin(url: URL) -> URL:
    twin = url.set(drivername=_SYNC_DRIVERS[url.drivername])
    if twin.get_backend_name() == "postgresql" and "ssl" in twin.query:
        # asyncpg calls the option ssl, libpq calls it sslmode; the values are the same.
        mode = twin.query["ssl"]
        twin = twin.difference_update_query(["ssl"]).update_query_dict({"sslmode": mode})
    return twin
