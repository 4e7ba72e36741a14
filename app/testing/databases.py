"""Databases for one test: SQLite files that the real migrations have made."""

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from app.config.plugins import LoadedPlugin
from app.config.settings import APPLICATION_BIND, LINT_BIND, Settings
from app.db import Databases, migrations
from app.db.base import bases_by_bind

_made: dict[tuple[str, ...], Path] = {}


def binds_of(plugins: Sequence[LoadedPlugin]) -> tuple[str, ...]:
    """Return every bind that the core or a plugin has tables in; imports the plugins' models."""
    for plugin in plugins:
        plugin.load("models")
    found = {bind for bind, _ in bases_by_bind()}
    found |= {unit.bind for unit in migrations.units(plugins)}
    return tuple(sorted(found | {APPLICATION_BIND, LINT_BIND}))


def urls_below(folder: Path, binds: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the settings `databases` with one SQLite file per bind in the folder."""
    return {bind: {"url": f"sqlite+aiosqlite:///{folder}/{bind}.db"} for bind in binds}


def place_databases(folder: Path, plugins: Sequence[LoadedPlugin]) -> None:
    """Put migrated databases into the folder; the migrations run once in a process."""
    key = tuple(sorted(plugin.module for plugin in plugins))
    if key not in _made:
        _made[key] = _migrated(plugins)
    shutil.copytree(_made[key], folder, dirs_exist_ok=True)


def _migrated(plugins: Sequence[LoadedPlugin]) -> Path:
    folder = Path(tempfile.mkdtemp(dir=_templates()))
    if plugins:
        # The core's own line is the longest; every set of plugins begins where it ends.
        place_databases(folder, ())
    settings = Settings.model_validate({"databases": urls_below(folder, binds_of(plugins))})
    databases = Databases(settings.databases)
    migrations.upgrade(databases, plugins)
    databases.dispose_sync()
    return folder


@cache
def _templates() -> Path:
    folder = tempfile.mkdtemp(prefix="taskyard-kit-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
