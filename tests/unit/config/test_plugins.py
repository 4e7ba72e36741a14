"""Finding plugins: by built-in name, dotted name and entry point; and what a bad one says."""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel, ConfigDict

from app.common.errors import ConfigurationError
from app.config.plugins import LoadedPlugin, Plugin, PluginLoadError, load_plugins

MANIFEST = "from app import Plugin\nPLUGIN = Plugin(name='{}', version='1.0.0')\n"
Write = Callable[[str, str], None]
_numbers = itertools.count()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """A function that writes a module below a folder that is importable during the test."""
    folder = tmp_path / f"path{next(_numbers)}"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)

    def make(file: str, text: str) -> None:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    yield make
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(folder)):
            del sys.modules[name]


def package(write: Write, name: str = "yard_pack", plugin: str = "pack") -> None:
    write(f"{name}/__init__.py", "")
    write(f"{name}/plugin.py", MANIFEST.format(plugin))
    write(f"{name}/tasks.py", "LOADED = 'tasks'\n")


def refused(*names: str) -> PluginLoadError:
    with pytest.raises(PluginLoadError) as caught:
        load_plugins(names)
    return caught.value


def test_a_built_in_plugin_goes_by_its_short_name() -> None:
    (loaded,) = load_plugins(["archive"])
    assert (loaded.name, loaded.module, loaded.is_package) == (
        "archive",
        "app.plugins.archive",
        True,
    )


def test_a_single_module_holds_its_tasks_itself(write: Write) -> None:
    write("yard_single.py", MANIFEST.format("single"))
    (loaded,) = load_plugins(["yard_single"])
    assert (loaded.name, loaded.is_package) == ("single", False)
    tasks = loaded.load("tasks")
    assert tasks is sys.modules["yard_single"]
    assert loaded.load("routes") is None
    assert loaded.migrations_dir() is None


def test_a_package_keeps_its_manifest_and_parts_in_files(write: Write, tmp_path: Path) -> None:
    package(write)
    (loaded,) = load_plugins(["yard_pack"])
    assert (loaded.name, loaded.module, loaded.is_package) == ("pack", "yard_pack", True)
    assert "yard_pack.tasks" not in sys.modules  # imported only when asked for
    tasks = loaded.load("tasks")
    assert isinstance(tasks, ModuleType)
    assert tasks.LOADED == "tasks"
    assert loaded.load("routes") is None
    assert loaded.migrations_dir() is None
    write("yard_pack/migrations/postgres_main/versions/0001.py", "")
    folder = loaded.migrations_dir()
    assert folder is not None
    assert folder.parts[-2:] == ("yard_pack", "migrations")


def test_a_package_may_hold_its_manifest_at_the_top(write: Write) -> None:
    write("yard_top/__init__.py", MANIFEST.format("top"))
    write("yard_top/tasks.py", "")
    (loaded,) = load_plugins(["yard_top"])
    assert loaded.name == "top"
    assert loaded.load("tasks") is sys.modules["yard_top.tasks"]


def test_a_dotted_name_leads_into_a_package(write: Write) -> None:
    write("yard_outer/__init__.py", "")
    write("yard_outer/inner/__init__.py", "")
    write("yard_outer/inner/plugin.py", MANIFEST.format("inner"))
    (loaded,) = load_plugins(["yard_outer.inner"])
    assert (loaded.name, loaded.module) == ("inner", "yard_outer.inner")


def test_the_module_of_the_manifest_stands_for_its_package(write: Write) -> None:
    package(write)
    (loaded,) = load_plugins(["yard_pack.plugin"])
    assert (loaded.module, loaded.is_package) == ("yard_pack", True)
    assert loaded.load("tasks") is sys.modules["yard_pack.tasks"]


@pytest.mark.parametrize("target", ["yard_pack", "yard_pack.plugin:PLUGIN"])
def test_an_entry_point_names_a_plugin(write: Write, target: str) -> None:
    package(write)
    write("yard_dist-1.0.dist-info/entry_points.txt", f"[taskyard.plugins]\nby-entry = {target}\n")
    write(
        "yard_dist-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: yard-dist\nVersion: 1\n"
    )
    (loaded,) = load_plugins(["by-entry"])
    assert (loaded.name, loaded.module) == ("pack", "yard_pack")
    assert loaded.load("tasks") is not None


def test_plugins_keep_the_order_of_the_settings(write: Write) -> None:
    package(write)
    write("yard_single.py", MANIFEST.format("single"))
    names = ["yard_single", "archive", "yard_pack"]
    assert [loaded.name for loaded in load_plugins(names)] == ["single", "archive", "pack"]
    assert load_plugins([]) == ()


@pytest.mark.parametrize(
    "name", ["no_such_plugin_here", "yard_pack.nothing", "", ".", "a..b", "x y"]
)
def test_a_plugin_that_is_not_there_is_named(write: Write, name: str) -> None:
    package(write)
    assert f"'{name}' was not found" in refused(name).detail


def test_a_misspelt_built_in_plugin_gets_advice() -> None:
    assert "Did you mean 'archive'?" in refused("archiv").detail


def test_a_module_without_a_manifest_is_told_how_to_write_one(write: Write) -> None:
    write("yard_bare.py", "PLUGIN = 'bare'\n")
    error = refused("yard_bare")
    assert "'yard_bare'" in error.detail
    assert error.hint is not None
    assert "PLUGIN = Plugin(" in error.hint


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise RuntimeError('the library is missing')", "RuntimeError: the library is missing"),
        ("import no_such_library_here", "no_such_library_here"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
    ],
)
def test_a_plugin_that_fails_to_load_is_named(write: Write, body: str, told: str) -> None:
    write("yard_broken.py", body)
    error = refused("yard_broken")
    assert "'yard_broken'" in error.detail
    assert told in error.detail


def test_the_package_around_a_plugin_may_fail_too(write: Write) -> None:
    write("yard_outer/__init__.py", "raise RuntimeError('outer')")
    write("yard_outer/inner.py", MANIFEST.format("inner"))
    error = refused("yard_outer.inner")
    assert "'yard_outer.inner'" in error.detail
    assert "outer" in error.detail


def test_a_part_that_fails_to_load_names_the_plugin(write: Write) -> None:
    package(write)
    write("yard_pack/routes.py", "raise KeyError('gone')")
    (loaded,) = load_plugins(["yard_pack"])
    with pytest.raises(PluginLoadError, match="'pack' cannot be loaded: KeyError"):
        loaded.load("routes")


def test_a_declaration_that_is_wrong_names_the_plugin_and_keeps_the_cure(write: Write) -> None:
    package(write)
    write("yard_pack/tasks.py", "from app import register_task\nregister_task('NoName')\n")
    (loaded,) = load_plugins(["yard_pack"])
    with pytest.raises(PluginLoadError, match="'pack' cannot be loaded: 'NoName'") as caught:
        loaded.load("tasks")
    assert caught.value.hint is not None
    assert "plugin.verb_noun" in caught.value.hint


def test_two_plugins_of_one_name_stop_the_start(write: Write) -> None:
    package(write)
    write("yard_single.py", MANIFEST.format("pack"))
    error = refused("yard_pack", "yard_single")
    assert "'yard_pack'" in error.detail
    assert "'yard_single'" in error.detail
    assert "'pack'" in error.detail


def test_one_plugin_named_twice_stops_the_start(write: Write) -> None:
    package(write)
    assert "'pack'" in refused("yard_pack", "yard_pack").detail


class MailSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    host: str = "localhost"
    port: int = 25


def test_a_plugins_settings_are_read_by_its_own_model() -> None:
    loaded = LoadedPlugin(
        Plugin(name="mail", version="1", settings_model=MailSettings), "yard_mail", is_package=False
    )
    assert loaded.settings({}) == MailSettings()
    assert loaded.settings({"port": "26"}) == MailSettings(port=26)
    with pytest.raises(ConfigurationError, match=r"plugin_settings\.mail.*'hots'.*'host'"):
        loaded.settings({"hots": "x"})
    with pytest.raises(ConfigurationError, match=r"plugin_settings\.mail.*'port' is wrong") as told:
        loaded.settings({"port": "hunter2"})
    assert "hunter2" not in told.value.detail


def test_a_plugin_without_settings_takes_none() -> None:
    loaded = LoadedPlugin(Plugin(name="mail", version="1"), "yard_mail", is_package=False)
    assert loaded.settings({}) is None
    with pytest.raises(ConfigurationError, match="has no settings"):
        loaded.settings({"port": 1})
