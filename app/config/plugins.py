"""Plugins: found by name, by dotted name or by entry point; each part is imported only when asked
for.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from app.common.errors import ConfigurationError
from app.config.nearest import explain, nearest
from app.config.plugin_faults import cure_of, place_of

ENTRY_POINT_GROUP = "taskyard.plugins"
BUILT_IN = "app.plugins"
Part = Literal["tasks", "routes", "models", "settings"]


class PluginLoadError(ConfigurationError):
    """A plugin named in the settings cannot be loaded; the process does not start without it."""

    code = "PLUGIN_LOAD_ERROR"
    title = "Plugin cannot be loaded"


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plugin's manifest. `settings_model` describes `plugin_settings.<name>`."""

    name: str
    version: str
    description: str = ""
    settings_model: type[BaseModel] | None = None


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin that was found: its manifest and the module or package that it lives in."""

    plugin: Plugin
    module: str
    is_package: bool

    @property
    def name(self) -> str:
        """The plugin's name, which its tasks' names start with."""
        return self.plugin.name

    def load(self, part: Part) -> ModuleType | None:
        """Return the part's module, None when the plugin has none; PluginLoadError when it fails.

        A plugin of one module holds its tasks itself and has no other part.
        """
        if not self.is_package:
            return _import(self.module, self.name) if part == "tasks" else None
        name = f"{self.module}.{part}"
        if importlib.util.find_spec(name) is None:
            return None
        return _import(name, self.name)

    def migrations_dir(self) -> Path | None:
        """Return the folder with one sub-folder of revisions per bind, None when there is none."""
        if not self.is_package:
            return None
        file = importlib.import_module(self.module).__file__
        folder = Path(file).parent / "migrations" if file else None
        return folder if folder and folder.is_dir() else None

    def settings(self, values: dict[str, Any]) -> BaseModel | None:
        """Return the plugin's own settings, validated; ConfigurationError names the wrong key."""
        model = self.plugin.settings_model
        if model is None:
            if values:
                raise ConfigurationError(
                    f"plugin_settings.{self.name} is set, but that plugin has no settings."
                )
            return None
        try:
            return model.model_validate(values)
        except ValidationError as error:
            raise ConfigurationError(
                f"plugin_settings.{self.name}: {explain(error, model)}"
            ) from None


def load_plugins(names: Sequence[str]) -> tuple[LoadedPlugin, ...]:
    """Return the named plugins in order; PluginLoadError names the one that fails, and why."""
    plugins: dict[str, LoadedPlugin] = {}
    for name in names:
        loaded = _load_one(name)
        if other := plugins.get(loaded.name):
            raise PluginLoadError(
                f"'{other.module}' and '{loaded.module}' both call themselves '{loaded.name}'."
            )
        plugins[loaded.name] = loaded
    return tuple(plugins.values())


def _load_one(name: str) -> LoadedPlugin:
    module_name = _locate(name)
    root = _import(module_name, name)
    parent, _, last = module_name.rpartition(".")
    if last == "plugin" and parent and not hasattr(root, "__path__"):
        # The manifest's own module was named; the plugin is the package around it.
        module_name, root = parent, _import(parent, name)
    is_package = hasattr(root, "__path__")
    holder = root
    if is_package and not hasattr(root, "PLUGIN"):
        holder = _import(f"{module_name}.plugin", name)
    plugin = getattr(holder, "PLUGIN", None)
    if not isinstance(plugin, Plugin):
        raise PluginLoadError(
            f"The plugin '{name}' ({holder.__name__}) does not define PLUGIN.",
            hint='Add: PLUGIN = Plugin(name="...", version="1.0.0")',
        )
    return LoadedPlugin(plugin, module_name, is_package)


def _locate(name: str) -> str:
    built_in = f"{BUILT_IN}.{name}"
    if "." not in name and importlib.util.find_spec(built_in) is not None:
        return built_in
    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return entry_point.module
    if name == "__main__":
        raise PluginLoadError(
            "'__main__' is the program that runs, not a plugin.",
            hint="Name the module that holds PLUGIN, for example 'word_tools' for word_tools.py.",
        )
    if not _is_importable(name):
        near = nearest(name, _built_in_names())
        hint = (
            f"Did you mean '{near}'?"
            if near
            else "It must be importable: is its folder on PYTHONPATH?"
        )
        raise PluginLoadError(f"The plugin '{name}' was not found. {hint}")
    return name


def _is_importable(name: str) -> bool:
    parent = name.rpartition(".")[0]
    if parent and _is_importable(parent):
        _import(parent, name)  # To look for the module imports its parent; a fault there is told.
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _built_in_names() -> list[str]:
    package = importlib.util.find_spec(BUILT_IN)
    folders = (
        [Path(place) for place in (package.submodule_search_locations or [])] if package else []
    )
    return [
        path.name
        for folder in folders
        for path in folder.iterdir()
        if (path / "plugin.py").is_file()
    ]


def _import(module: str, plugin: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ConfigurationError as error:
        raise _load_error(plugin, error.detail, error, error.hint) from error
    except (Exception, SystemExit) as error:
        told = f"{type(error).__name__}: {error}"
        raise _load_error(plugin, told, error, cure_of(error, module)) from error


def _load_error(plugin: str, told: str, error: BaseException, hint: str | None) -> PluginLoadError:
    place = place_of(error)
    return PluginLoadError(
        f"The plugin '{plugin}' cannot be loaded: {told}{f' ({place})' if place else ''}", hint=hint
    )
