"""The help, and what it costs to print it."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest
from typer.main import get_command

from app import __version__
from app.cli import create_cli, main
from tests.unit.cli.commands import RunCommand

HEAVY = ("sqlalchemy", "fastapi", "celery", "sqlfluff", "alembic", "redis", "httpx2", "rich")


def paths(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield words
        return
    for name, child in children.items():
        yield from paths(child, (*words, name))


COMMANDS = list(paths(get_command(create_cli())))


def test_the_commands_of_the_contract_are_there() -> None:
    names = {" ".join(words) for words in COMMANDS}
    assert names >= {
        "dev",
        "demo",
        "api",
        "worker",
        "beat",
        "token",
        "openapi",
        "users create",
        "plugins list",
        "config show",
        "tasks list",
        "tasks show",
        "tasks run",
    }
    assert {name for name in names if name.startswith("db ")} == {
        "db upgrade",
        "db downgrade",
        "db status",
        "db check",
        "db revision",
    }
    assert {name for name in names if name.startswith("runs ")} >= {
        "runs list",
        "runs show",
        "runs watch",
        "runs logs",
        "runs cancel",
    }


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_commands_help_shows_an_example(words: tuple[str, ...], taskyard: RunCommand) -> None:
    shown = taskyard(*words, "--help")
    assert shown.code == 0
    _, _, after = shown.out.partition("Example")
    assert f"taskyard {' '.join(words)}" in " ".join(after.split())


@pytest.mark.parametrize("arguments", [("--help",), ("tasks", "run", "--help"), ("db", "--help")])
def test_help_loads_no_heavy_library(arguments: tuple[str, ...]) -> None:
    script = (
        "import sys\n"
        "from app.cli import main\n"
        "try:\n"
        f"    main({list(arguments)!r})\n"
        "except SystemExit as ended:\n"
        "    assert ended.code == 0, ended.code\n"
        f"print('LOADED', sorted(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_the_version(taskyard: RunCommand) -> None:
    assert taskyard("--version").out == f"{__version__}\n"


@pytest.mark.parametrize(
    "arguments", [("tasks", "nope"), ("runs", "show"), ("tasks", "list", "-o", "xml"), ("nope",)]
)
def test_a_wrong_call_is_a_usage_error(arguments: tuple[str, ...], taskyard: RunCommand) -> None:
    ended = taskyard(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert "Error:" in ended.err


def test_the_installed_program_is_this_one() -> None:
    (program,) = entry_points(group="console_scripts", name="taskyard")
    assert program.load() is main
