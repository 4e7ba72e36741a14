"""A command line to call, a service to call it with, and a folder to be in."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.unit.cli.commands import RunCommand, make_runner
from tests.unit.cli.fake_service import FakeService, serve

EXAMPLE_PLUGIN = '''
"""A plugin of one module."""

from app import Plugin, register_task

PLUGIN = Plugin(name="greeter", version="2.1.0", description="Greets.")


@register_task("greeter.say_hello")
def say_hello(name: str, times: int = 1) -> str:
    """Greet somebody."""
    return f"Hello {name}! " * times
'''


@pytest.fixture
def taskyard(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[RunCommand]:
    """The command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield make_runner(capsys)
    # Commands send the log to a standard error that is gone after the test.
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    """A service at the address that the environment gives."""
    with serve(FakeService()) as served:
        monkeypatch.setenv("TASKYARD_URL", served.url)
        monkeypatch.setenv("TASKYARD_TOKEN", "header.payload.signature")
        yield served


@pytest.fixture
def installation(
    taskyard: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunCommand:
    """The command line, in a folder with one plugin and databases that are migrated."""
    (tmp_path / "greeter_plugin_for_tests.py").write_text(EXAMPLE_PLUGIN, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TASKYARD_PLUGINS", '["greeter_plugin_for_tests"]')
    assert taskyard("db", "upgrade").code == 0
    return taskyard
