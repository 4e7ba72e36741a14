"""Engines, made from a bind's addresses and pool options."""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.common import strict_json
from app.db.faults import WatchedAsyncPool, WatchedPool, watch
from app.db.options import DatabaseOptions
from app.db.urls import BindUrl, parse_bind_url

if TYPE_CHECKING:
    from app.db.hot import HotConnection

_MODULES = {
    "postgresql": "app.db.postgres",
    "mysql": "app.db.mysql",
    "sqlite": "app.db.sqlite",
}
_HOT: Final = "app.db.hot"


def build_async_engine(url: BindUrl, options: DatabaseOptions) -> AsyncEngine:
    """Return an engine for the running event loop; it connects on first use."""
    dialect = _dialect_module(url)
    engine = create_async_engine(
        url.async_url,
        poolclass=WatchedAsyncPool,
        **_pool_options(options),
        **dialect.async_options(url, options),
    )
    watch(engine.sync_engine, url.bind)
    dialect.prepare_async(engine.sync_engine)
    return engine


def build_sync_engine(url: BindUrl, options: DatabaseOptions) -> Engine:
    """Return an engine for the threads of this process; it connects on first use."""
    dialect = _dialect_module(url)
    engine = create_engine(
        url.sync_url,
        poolclass=WatchedPool,
        **_pool_options(options),
        **dialect.sync_options(url, options),
    )
    watch(engine, url.bind)
    dialect.prepare_sync(engine, options)
    return engine


def build_hot_connection(bind: str, engine: Engine) -> "HotConnection":
    """Return a connection of PostgreSQL beside the engine's pool; it connects on first use."""
    connection: HotConnection = import_module(_HOT).HotConnection(bind, engine)
    return connection


def load_drivers(databases: Mapping[str, DatabaseOptions]) -> None:
    """Import what the engines of these binds need, for processes that are forked afterwards."""
    for bind, options in databases.items():
        url = parse_bind_url(bind, options.url.get_secret_value())
        # They import their dialects when they are made; nothing connects.
        build_async_engine(url, options)
        build_sync_engine(url, options)
        if url.dialect == "postgresql":
            import_module(_HOT)


def _pool_options(options: DatabaseOptions) -> dict[str, Any]:
    return {
        "pool_size": options.pool_size,
        "max_overflow": options.max_overflow,
        "pool_timeout": options.pool_timeout_seconds,
        "echo": options.echo,
        "hide_parameters": not options.echo,
        "json_serializer": strict_json.dumps,
    }


def _dialect_module(url: BindUrl) -> ModuleType:
    # A driver is imported only by a process that has a URL for it.
    return import_module(_MODULES[url.dialect])
