"""A plugin's migrations: up, compared with the models, down to nothing, and up again."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from app.config.plugins import LoadedPlugin
from app.config.settings import Settings
from app.db import Databases, migrations
from app.db.base import bases_by_bind
from app.db.migration_units import Unit
from app.testing.checks.fault import Fault
from app.testing.databases import binds_of, urls_below


def check_tables(plugin: LoadedPlugin) -> Iterator[Fault]:
    """Yield what is wrong between the models, the migrations and the way back, on SQLite."""
    plugin.load("models")
    units = [unit for unit in migrations.units([plugin]) if unit.owner == plugin.name]
    yield from _check_homes(plugin, {unit.bind for unit in units})
    if not units:
        return
    with tempfile.TemporaryDirectory(prefix="taskyard-check-") as folder:
        urls = urls_below(Path(folder), binds_of([plugin]))
        databases = Databases(Settings.model_validate({"databases": urls}).databases)
        try:
            for unit in units:
                yield from _check_unit(databases, plugin, unit)
        finally:
            databases.dispose_sync()


def _check_homes(plugin: LoadedPlugin, migrated: set[str]) -> Iterator[Fault]:
    for bind, base in bases_by_bind():
        names = sorted(
            table.name
            for table in base.metadata.tables.values()
            if table.info.get("owner") == plugin.name
            or f"{table.info.get('module')}.".startswith(f"{plugin.module}.")
        )
        if names and bind not in migrated:
            yield Fault(
                "tables",
                f"{plugin.module}.models",
                f"No migration makes {', '.join(names)}.",
                f"Make the folder migrations/{bind}/versions and run: taskyard db revision --owner "
                f"{plugin.name} --bind {bind} -m 'Create the tables'",
            )


def _check_unit(databases: Databases, plugin: LoadedPlugin, unit: Unit) -> Iterator[Fault]:
    where = str(unit.versions)
    chosen = {"owner": unit.owner, "bind": unit.bind}
    step = "upgrade"
    try:
        migrations.upgrade(databases, [plugin], **chosen)
        step = "comparison with the models"
        for drift in migrations.check(databases, [plugin], **chosen):
            for difference in drift.differences:
                yield Fault(
                    "tables",
                    where,
                    f"The tables differ from the models: {difference}.",
                    f"taskyard db revision --owner {unit.owner} --bind {unit.bind} -m '…'",
                )
        step = "downgrade to nothing"
        migrations.downgrade(databases, [plugin], **chosen, to="base")
        step = "second upgrade"
        migrations.upgrade(databases, [plugin], **chosen)
    except Exception as error:  # noqa: BLE001 - a revision is the author's code
        reason = (str(error.__cause__ or error) or type(error).__name__).splitlines()[0]
        yield Fault(
            "tables",
            where,
            f"The {step} of {unit.name} fails: {reason}",
            "upgrade() and downgrade() of each revision have to undo each other.",
        )
