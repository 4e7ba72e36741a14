"""What can be migrated: one unit for each owner (the core or a plugin) and each of its binds.

A unit is a line of revisions of its own, with a version table of its own, so a
plugin that is switched off does not stand in the way of the others' upgrades.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import MetaData, Table

from app.common.errors import ConfigurationError
from app.config.plugins import LoadedPlugin
from app.db.base import CORE_OWNER, bases_by_bind


class MigrationError(ConfigurationError):
    """The migrations, the models and the settings do not fit together."""

    code = "MIGRATION_ERROR"
    title = "Migration not possible"


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One owner's revisions for one bind."""

    owner: str
    bind: str
    versions: Path

    @property
    def name(self) -> str:
        """The unit as people write it, such as "core/postgres_main"."""
        return f"{self.owner}/{self.bind}"

    @property
    def version_table(self) -> str:
        """The table that holds the revision that the database stands at."""
        return f"alembic_version_{self.owner}"

    @property
    def metadata(self) -> MetaData:
        """The models of the bind, of every owner; an empty one when no base has the bind."""
        bases = dict(bases_by_bind())
        return bases[self.bind].metadata if self.bind in bases else MetaData()

    def tables(self) -> list[Table]:
        """Return the tables that this owner's models declare in the bind."""
        return [table for table in self.metadata.sorted_tables if self.owns(table)]

    def owns(self, table: Table) -> bool:
        """Return whether the table is this unit's; MigrationError when it is nobody's."""
        if "owner" not in table.info:
            raise MigrationError(
                f"Nobody owns the table '{table.name}'.",
                hint='Declare it as a model, or give the Table info={"owner": "<plugin>"}.',
            )
        return bool(table.info["owner"] == self.owner)


def units(plugins: Sequence[LoadedPlugin]) -> tuple[Unit, ...]:
    """Return every unit: the core's first, then the plugins' by name, whatever their order was.

    Imports the plugins' models, so that their tables are known. The core's own
    models are imported by the process that asks for a check or a new revision.
    """
    found = list(_units_below(CORE_OWNER, migrations_dir() / CORE_OWNER))
    for plugin in sorted(plugins, key=lambda one: one.name):
        folder = plugin.migrations_dir()
        if folder is not None:
            plugin.load("models")
            _hand_over(plugin)
            found.extend(_units_below(plugin.name, folder))
    return tuple(found)


def select(
    found: Sequence[Unit], *, owner: str | None = None, bind: str | None = None
) -> tuple[Unit, ...]:
    """Return the units of the owner and the bind; MigrationError lists what there is."""
    chosen = tuple(one for one in found if owner in {None, one.owner} and bind in {None, one.bind})
    if not chosen:
        raise MigrationError(
            f"There are no migrations of '{owner or '*'}/{bind or '*'}'.",
            hint=f"There are: {', '.join(one.name for one in found)}.",
        )
    return chosen


def migrations_dir() -> Path:
    """Return the folder with env.py: inside an installed package, else beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def _units_below(owner: str, folder: Path) -> Iterator[Unit]:
    for versions in sorted(folder.glob("*/versions")):
        yield Unit(owner=owner, bind=versions.parent.name, versions=versions)


def _hand_over(plugin: LoadedPlugin) -> None:
    """Give the plugin its tables: its name is not always the name of its package."""
    inside = f"{plugin.module}."
    for _, base in bases_by_bind():
        for table in base.metadata.tables.values():
            if f"{table.info.get('module', '')}.".startswith(inside):
                table.info["owner"] = plugin.name
