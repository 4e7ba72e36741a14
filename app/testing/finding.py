"""From what an author has at hand to the plugin that a process would load."""

import sys
from types import ModuleType

from app.config.plugins import LoadedPlugin, Plugin, PluginLoadError, load_plugins


def find_plugin(plugin: Plugin | ModuleType | str) -> LoadedPlugin:
    """Return the plugin of a manifest, a module or a name as in the settings; PluginLoadError."""
    if isinstance(plugin, Plugin):
        name = _module_of(plugin)
    else:
        name = plugin.__name__ if isinstance(plugin, ModuleType) else plugin
    (loaded,) = load_plugins([name])
    return loaded


def _module_of(plugin: Plugin) -> str:
    """Return where the manifest was written: the longest name, since packages pass it on."""
    holders = [
        name
        for name, module in list(sys.modules.items())
        if getattr(module, "__dict__", {}).get("PLUGIN") is plugin
    ]
    homes = [name for name in holders if name.rpartition(".")[2] == "plugin"]
    if not holders:
        raise PluginLoadError(
            f"The plugin '{plugin.name}' is in no module that is imported.",
            hint="Write PLUGIN = Plugin(...) at the top level of plugin.py, and pass that PLUGIN.",
        )
    # A test that imports PLUGIN holds it as well; the manifest's own module is called `plugin`.
    return homes[0] if homes else holders[0]
