"""The contract of a plugin, as a check that its author runs."""

from types import ModuleType

from app.common.errors import ConfigurationError
from app.config.plugins import LoadedPlugin, Plugin
from app.testing.checks.fault import Fault
from app.testing.checks.processes import check_processes
from app.testing.checks.sources import check_sources
from app.testing.checks.tables import check_tables
from app.testing.checks.tasks import check_manifest, check_tasks
from app.testing.finding import find_plugin
from app.testing.kit import open_kit


class PluginFaults(AssertionError):
    """A plugin breaks the contract; the message lists every fault with its cure."""

    def __init__(self, name: str, faults: list[Fault]) -> None:
        super().__init__(
            f"The plugin '{name}' has {len(faults)} fault(s):\n" + "\n".join(map(str, faults))
        )
        self.faults = faults


def check_plugin(plugin: Plugin | ModuleType | str) -> None:
    """Raise PluginFaults unless the plugin keeps the contract.

    Looked at: the manifest and the settings, names, docstrings, schemas and defaults of the
    tasks, what its files import, what each process loads with it, its migrations (up, compared
    with the models, down, up), and its routes: mounted, described, closed without a token.
    """
    faults = find_faults(plugin)
    if faults:
        raise PluginFaults(find_plugin(plugin).name, faults)


def find_faults(plugin: Plugin | ModuleType | str) -> list[Fault]:
    """Return what `check_plugin` would raise; PluginLoadError when it cannot be loaded at all."""
    loaded = find_plugin(plugin)
    faults = list(check_manifest(loaded))
    try:
        faults += _faults_of_code(loaded)
    except ConfigurationError as error:
        # It would stop the boot, so nothing after it can be looked at.
        faults.append(Fault("boot", loaded.module, error.detail, error.hint or "See the message."))
    return faults


def _faults_of_code(plugin: LoadedPlugin) -> list[Fault]:
    faults = list(check_tables(plugin))
    if faults:
        # A kit runs on the plugin's own migrations.
        return faults
    with open_kit(plugin.module) as kit:
        registry = kit.services.registry
        faults += check_tasks(plugin, registry)
        faults += check_sources(plugin, registry)
        faults += check_processes(plugin)
        if plugin.load("routes") is not None:
            from app.testing.checks.routes import check_routes  # noqa: PLC0415 - loads FastAPI

            faults += check_routes(plugin, kit)
    return faults


__all__ = ["Fault", "PluginFaults", "check_plugin", "find_faults"]
