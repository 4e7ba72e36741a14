"""Migrations of every unit as functions that return what they did; the CLI prints it.

They block: call them before an event loop runs, or in a thread.
"""

import re
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection

from app.config.plugins import LoadedPlugin
from app.db.databases import Databases
from app.db.engines import build_sync_engine
from app.db.migration_lock import STATEMENT_TIMEOUT_SECONDS, exclusive
from app.db.migration_options import context_options
from app.db.migration_units import MigrationError, Unit, migrations_dir, select, units
from app.db.options import with_statement_timeout

__all__ = [
    "DatabaseAhead",
    "Drift",
    "MigrationError",
    "Status",
    "Step",
    "check",
    "downgrade",
    "is_current",
    "revision",
    "status",
    "units",
    "upgrade",
]


T = TypeVar("T")


class DatabaseAhead(MigrationError):
    """Newer code has migrated the database; this code does not know its revision."""

    code = "DATABASE_AHEAD"
    title = "Database is newer than the program"


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a unit stands: its revision in the database, the newest one, and those between."""

    owner: str
    bind: str
    current: str | None
    head: str | None
    pending: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a run did to a unit: from which revision to which, and through which ones."""

    owner: str
    bind: str
    before: str | None
    after: str | None
    applied: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How a unit's database differs from its models, one line for each difference."""

    owner: str
    bind: str
    pending: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is pending and nothing differs."""
        return not self.pending and not self.differences


def upgrade(
    databases: Databases,
    plugins: Sequence[LoadedPlugin],
    *,
    owner: str | None = None,
    bind: str | None = None,
    to: str = "head",
) -> list[Step]:
    """Bring every unit, or those of one owner or bind, to its newest revision or to a given one."""
    chosen = select(units(plugins), owner=owner, bind=bind)
    work = partial(_migrate, run=command.upgrade, target=to)
    return _on_each(databases, chosen, work, locked=True)


def downgrade(
    databases: Databases,
    plugins: Sequence[LoadedPlugin],
    *,
    owner: str | None = None,
    bind: str | None = None,
    to: str = "-1",
) -> list[Step]:
    """Take every chosen unit one revision back, or to a revision, or to "base"; plugins first."""
    chosen = select(units(plugins), owner=owner, bind=bind)[::-1]
    work = partial(_migrate, run=command.downgrade, target=to)
    return _on_each(databases, chosen, work, locked=True)


def status(
    databases: Databases,
    plugins: Sequence[LoadedPlugin],
    *,
    owner: str | None = None,
    bind: str | None = None,
) -> list[Status]:
    """Return where each unit stands; changes nothing."""
    return _on_each(databases, select(units(plugins), owner=owner, bind=bind), _status)


def is_current(databases: Databases, plugins: Sequence[LoadedPlugin]) -> bool:
    """Return whether no unit has a pending revision.

    A database that newer code has migrated has none: in a rolling upgrade the old
    processes serve on until they are replaced.
    """
    return not any(_on_each(databases, units(plugins), _is_behind))


def check(
    databases: Databases,
    plugins: Sequence[LoadedPlugin],
    *,
    owner: str | None = None,
    bind: str | None = None,
) -> list[Drift]:
    """Return how each unit's tables differ from its models; changes nothing.

    Raises MigrationError when a unit has revisions and no model of its is
    imported: the comparison would call every table superfluous.
    """
    return _on_each(databases, select(units(plugins), owner=owner, bind=bind), _drift)


def revision(
    databases: Databases,
    plugins: Sequence[LoadedPlugin],
    *,
    owner: str,
    bind: str,
    message: str,
) -> Path:
    """Write a new revision with what the models have and the database has not; return its file."""
    unit = select(units(plugins), owner=owner, bind=bind)[0]
    _require_models(unit)
    slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")[:26] or "revision"
    # Alembic keeps a revision's name in 32 characters.
    number = len(list(_script(unit).walk_revisions())) + 1
    with _connect(databases, unit.bind) as connection:
        if pending := _pending(unit, _script(unit), _current(unit, connection)):
            raise MigrationError(
                f"The database of {unit.name} is not up to date: {', '.join(pending)}.",
                hint="Run 'taskyard db upgrade' first.",
            )
        written = command.revision(
            _config(unit, connection),
            message=message,
            autogenerate=True,
            rev_id=f"{number:04d}_{slug}",
            version_path=str(unit.versions),
        )
    if isinstance(written, list):
        written = written[0]
    if written is None:
        raise MigrationError(f"Alembic wrote no revision for {unit.name}.")
    return Path(written.path)


def _on_each(
    databases: Databases,
    chosen: Sequence[Unit],
    work: Callable[[Unit, Connection], T],
    *,
    locked: bool = False,
) -> list[T]:
    """Return what the work returns for each unit with a connection to its database.

    `locked`: the connection holds the database's migration lock meanwhile.
    """
    done = []
    for bind, group in groupby(chosen, key=lambda unit: unit.bind):
        with _connect(databases, bind) as connection:
            lock = exclusive(connection, databases.dialect(bind), bind)
            with lock if locked else nullcontext():
                done += [work(unit, connection) for unit in group]
    return done


def _status(unit: Unit, connection: Connection) -> Status:
    current, script = _current(unit, connection), _script(unit)
    return Status(
        owner=unit.owner,
        bind=unit.bind,
        current=current,
        head=script.get_current_head(),
        pending=_pending(unit, script, current),
    )


def _drift(unit: Unit, connection: Connection) -> Drift:
    _require_models(unit)
    options = context_options(unit, connection)
    metadata = options.pop("target_metadata")
    context = MigrationContext.configure(connection, opts=options)
    differences = compare_metadata(context, metadata)
    return Drift(
        owner=unit.owner,
        bind=unit.bind,
        pending=_pending(unit, _script(unit), _current(unit, connection)),
        differences=tuple(_describe(one) for one in differences),
    )


def _migrate(unit: Unit, connection: Connection, *, run: Any, target: str) -> Step:
    before = _current(unit, connection)
    _end_read(connection)
    config = _config(unit, connection)
    try:
        run(config, target)
    except CommandError as error:
        raise MigrationError(f"{unit.name}: {error}") from error
    return Step(
        owner=unit.owner,
        bind=unit.bind,
        before=before,
        after=_current(unit, connection),
        applied=tuple(config.attributes["applied"]),
    )


def _end_read(connection: Connection) -> None:
    """Leave the transaction that a SELECT began, or Alembic would not commit its own.

    SQLite runs in the one transaction of its lock.
    """
    if connection.dialect.name != "sqlite":
        connection.rollback()


@contextmanager
def _connect(databases: Databases, bind: str) -> Iterator[Connection]:
    options = with_statement_timeout(databases.options(bind), STATEMENT_TIMEOUT_SECONDS)
    engine = build_sync_engine(databases.url(bind), options)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _config(unit: Unit, connection: Connection | None = None) -> Config:
    # Quiet: the results are returned, and the caller prints them.
    config = Config(cmd_opts=Namespace(quiet=True))
    config.set_main_option("script_location", _escaped(migrations_dir()))
    config.set_main_option("version_locations", _escaped(unit.versions))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("file_template", "%%(rev)s")
    config.attributes.update(unit=unit, connection=connection, applied=[])
    return config


def _escaped(path: Path) -> str:
    # Alembic reads its options through configparser, which interpolates per cent signs.
    return str(path).replace("%", "%%")


def _script(unit: Unit) -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(unit))


def _current(unit: Unit, connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": unit.version_table})
    return context.get_current_revision()


def _is_behind(unit: Unit, connection: Connection) -> bool:
    try:
        return bool(_pending(unit, _script(unit), _current(unit, connection)))
    except DatabaseAhead:
        return False


def _pending(unit: Unit, script: ScriptDirectory, current: str | None) -> tuple[str, ...]:
    try:
        revisions = list(script.iterate_revisions("heads", current or "base"))
    except (CommandError, RevisionError) as error:
        raise DatabaseAhead(
            f"The database of {unit.name} stands at '{current}', which is not known here.",
            hint="Run the newer version of the program, or of the plugin.",
        ) from error
    return tuple(str(one.revision) for one in reversed(revisions))


def _require_models(unit: Unit) -> None:
    if not unit.tables():
        raise MigrationError(
            f"No model of {unit.name} is imported.",
            hint="Import the models before the check: their tables are what it compares with.",
        )


def _describe(difference: Any) -> str:
    """Return one line for one of Alembic's differences, which are tuples or lists of tuples."""
    if isinstance(difference, list):
        return "; ".join(_describe(one) for one in difference)
    kind, *rest = difference
    names = [str(getattr(one, "name", None) or one) for one in rest if _is_name(one)]
    return f"{kind.replace('_', ' ')}: {'.'.join(names)}"


def _is_name(item: Any) -> bool:
    return item is not None and not isinstance(item, dict)
