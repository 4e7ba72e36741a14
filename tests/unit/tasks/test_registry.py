"""The registry: names, aliases, near names, queues, and what a plugin's module contributes."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import register_task
from app.common.errors import ConfigurationError
from app.config import load_settings
from app.config.plugins import LoadedPlugin, Plugin, PluginLoadError
from app.tasks.errors import DuplicateTaskError, TaskDeclarationError, TaskNotRegistered
from app.tasks.registry import Registry, TaskSpec, build_registry, spec_of
from app.tasks.services import open_services
from tests.harness import MemoryTransport


def task(name: str, **options: Any) -> TaskSpec:
    @register_task(name, **options)
    def function() -> None:
        """Do one thing.

        And here is why.
        """

    return spec_of(function, "test")


def test_a_task_is_found_by_name_and_alias() -> None:
    one, two = task("test.one", aliases=("test.uno",)), task("test.two")
    registry = Registry([two, one])
    assert registry.get("test.one") is one
    assert registry.get("test.uno") is one
    assert registry.find("test.two") is two
    assert registry.find("test.three") is None
    assert registry.specs() == [one, two]
    assert registry.names() == ["test.one", "test.two", "test.uno"]


def test_the_first_line_of_the_docstring_is_the_description() -> None:
    assert task("test.one").description == "Do one thing."


def test_an_unknown_name_is_told_the_near_ones() -> None:
    registry = Registry([task("text.count_words"), task("text.count_lines")])
    with pytest.raises(TaskNotRegistered) as caught:
        registry.get("text.count_word")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("Did you mean 'text.count_words'")
    with pytest.raises(TaskNotRegistered) as caught:
        registry.get("qqq" * 5000)
    assert caught.value.hint is not None
    assert "named in the setting 'plugins'?" in caught.value.hint
    assert len(caught.value.hint) < 300
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"name": "test.one"}, {"name": "test.one"}),
        ({"name": "test.one", "aliases": ("test.two",)}, {"name": "test.two"}),
        (
            {"name": "test.one", "aliases": ("test.old",)},
            {"name": "test.two", "aliases": ("test.old",)},
        ),
        ({"name": "test.one", "aliases": ("test.one",)}, {"name": "test.two"}),
    ],
)
def test_a_name_has_one_owner(first: dict[str, Any], second: dict[str, Any]) -> None:
    with pytest.raises(DuplicateTaskError, match="is claimed by") as caught:
        Registry([task(**first), task(**second)])
    assert caught.value.hint is not None
    assert "aliases=" in caught.value.hint


def test_queues_are_those_of_tasks_and_settings() -> None:
    registry = Registry([task("test.one", queue="slow"), task("test.two")], ("extra", "slow"))
    assert registry.queues() == ["default", "extra", "slow"]


def test_the_backoff_is_that_of_the_options() -> None:
    backoff = task("test.one", backoff_seconds=2, backoff_max_seconds=5, jitter=0).backoff
    assert [backoff.delay(attempt) for attempt in (1, 2, 3, 4000)] == [2, 4, 5, 5]


# What a plugin contributes.

HEAD = "from app import Plugin, register_task\nPLUGIN = Plugin(name='{}', version='1')\n"
TASK = '@register_task("{0}.work")\ndef work() -> None:\n    """Work."""\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def loaded(module: str, name: str | None = None) -> LoadedPlugin:
    return LoadedPlugin(Plugin(name=name or module, version="1"), module, is_package=False)


def test_a_module_gives_the_tasks_that_it_defines(folder: Path) -> None:
    (folder / "yard_a.py").write_text(HEAD.format("yard_a") + TASK.format("yard_a"))
    # Imported functions belong to the plugin that defines them, also when its name is the start
    # of another's; a second name for one function is no second task.
    (folder / "yard_a_more.py").write_text(
        HEAD.format("yard_a_more")
        + "from yard_a import work as borrowed\n"
        + TASK.format("yard_a_more")
        + "again = work\n"
    )
    (folder / "yard_b.py").write_text("from yard_a_more import work\n" + HEAD.format("yard_b"))
    registry = build_registry([loaded("yard_a"), loaded("yard_a_more"), loaded("yard_b")], ("x",))
    assert registry.names() == ["yard_a.work", "yard_a_more.work"]
    assert registry.get("yard_a_more.work").plugin == "yard_a_more"
    assert "x" in registry.queues()


def test_a_neighbour_with_a_longer_name_keeps_its_tasks(folder: Path) -> None:
    (folder / "yard_long.py").write_text(HEAD.format("yard_long") + TASK.format("yard_long"))
    (folder / "yard_lon.py").write_text(HEAD.format("yard_lon") + "from yard_long import work\n")
    assert build_registry([loaded("yard_lon")]).names() == []


def test_objects_with_every_attribute_are_no_tasks(folder: Path) -> None:
    text = "from unittest.mock import MagicMock\nmagic = MagicMock()\nfrom sqlalchemy import func\n"
    (folder / "yard_magic.py").write_text(text + HEAD.format("m") + TASK.format("yard_magic"))
    assert build_registry([loaded("yard_magic")]).names() == ["yard_magic.work"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("def work() -> None:\n    pass\n", "no docstring"),
        ('def work(a) -> None:\n    """Work."""\n', "'a'"),
    ],
)
def test_a_wrong_task_names_its_plugin_and_the_cure(folder: Path, body: str, told: str) -> None:
    head = HEAD.format("yard_wrong") + '@register_task("yard_wrong.work")\n'
    (folder / "yard_wrong.py").write_text(head + body)
    with pytest.raises(TaskDeclarationError, match="In the plugin 'mine'") as caught:
        build_registry([loaded("yard_wrong", "mine")])
    assert told in caught.value.detail
    assert caught.value.hint


def test_a_module_that_cannot_be_loaded_stops_the_start(folder: Path) -> None:
    (folder / "yard_gone.py").write_text("raise OSError('no disk')")
    with pytest.raises(PluginLoadError, match=r"'yard_gone'.*no disk"):
        build_registry([loaded("yard_gone")])


def test_settings_of_a_plugin_that_is_not_there_stop_the_start(tmp_path: Path) -> None:
    environ = {"TASKYARD_PLUGIN_SETTINGS": '{"lnit": {"a": 1}}', "TASKYARD_PLUGINS": '["lint"]'}
    settings = load_settings(data_dir=tmp_path, environ=environ)
    with pytest.raises(ConfigurationError, match=r"'plugin_settings\.lint'\?"):
        open_services(settings, transport=MemoryTransport())
