"""What holds for every command: options, formats, colours, completion. A new command is met too."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from app.cli import create_cli
from tests.unit.cli.commands import Outcome, RunCommand, make_runner
from tests.unit.cli.fake_service import Answer, FakeService, Received, serve

RUN = "01890a5d-ac96-774b-bcce-b302099a8057"
# One document that has what every client looks for; these tests ask for the form, not the content.
THING: dict[str, Any] = {
    "id": RUN,
    "task_id": RUN,
    "name": "text.count_words",
    "task": "text.count_words",
    "status": "SUCCEEDED",
    "attempt": 1,
    "max_attempts": 3,
    "error": None,
    "params": {},
    "params_schema": {"type": "object", "properties": {}},
    "message": "a line with \x1b[31mcolour\x1b[0m and ümlauts",
    "matched": 1,
    "count": 1,
    "reasons": [{"code": "WAITING", "detail": "It waits.", "fix": "Wait."}],
    "dead_letter_count": 1,
    "created_at": "2026-01-31T12:00:00Z",
}
ANSWER = {**THING, "items": [THING], "next_cursor": None}

# How each command with `--output` is called; `None` stands for a value in a folder of its own.
CALLS: dict[str, list[str]] = {
    "doctor": [],
    "tasks list": [],
    "tasks show": ["text.count_words"],
    "tasks run": ["text.count_words"],
    "runs list": [],
    "runs show": [RUN],
    "runs watch": [RUN],
    "runs logs": [RUN],
    "runs cancel": [RUN],
    "runs rerun": [RUN],
    "runs explain": [RUN],
    "dead-letters list": [],
    "dead-letters groups": [],
    "dead-letters show": [RUN],
    "dead-letters replay": [RUN],
    "dead-letters discard": [RUN, "--reason", "not needed"],
    "queues list": [],
    "queues pause": ["default"],
    "queues resume": ["default"],
    "workers list": [],
    "workers drain": ["worker@host"],
    "workers resume": ["worker@host"],
    "schedules list": [],
    "schedules show": [RUN],
    "schedules create": ["nightly", "text.count_words", "--cron", "0 3 * * *"],
    "schedules pause": [RUN],
    "schedules resume": [RUN],
    "schedules run": [RUN],
    "schedules preview": [RUN],
    "schedules firings": [RUN],
    "schedules delete": [RUN],
    "lint": ["query.sql"],
    "users create": ["anna", "--password-stdin"],
    "db upgrade": [],
    "db downgrade": ["--owner", "lint", "--yes"],
    "db status": [],
    "db check": [],
    "db revision": ["--owner", "lint", "--bind", "mysql_lint", "-m", "Add nothing"],
    "plugins list": [],
    "plugins new": ["demo_plugin"],
    "config show": [],
}
# These write a file into the product's own folder, or need what only a real service has.
NOT_CALLED = {"db revision", "lint"}


class Anything(FakeService):
    """A service that answers every request with one document."""

    def respond(self, request: Received) -> Answer:
        self.received.append(request)
        return Answer(ANSWER)


def commands() -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(command: Any, path: tuple[str, ...]) -> None:
        below = getattr(command, "commands", None)
        if below is None:
            found[" ".join(path)] = command
        for name, child in (below or {}).items():
            walk(child, (*path, name))

    walk(get_command(create_cli()), ())
    return found


COMMANDS = commands()
WITH_OUTPUT = [
    name
    for name, command in COMMANDS.items()
    if any("--output" in parameter.opts for parameter in command.params)
]


@pytest.fixture
def taskyard(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunCommand]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "query.sql").write_text("SELECT 1\n")
    with serve(Anything()) as service:
        monkeypatch.setenv("TASKYARD_URL", service.url)
        monkeypatch.setenv("TASKYARD_TOKEN", "header.payload.signature")
        yield make_runner(capsys)


def call(taskyard: RunCommand, name: str, output: str, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    if name.startswith(("db ", "users ")) and name != "db upgrade":
        assert taskyard("db", "upgrade").code == 0
    read, write = os.pipe()
    os.write(write, b"a password of sixteen\n")
    os.close(write)
    with os.fdopen(read) as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        return taskyard(*name.split(), *CALLS[name], "--output", output)


def test_every_command_with_a_form_of_output_is_called_here() -> None:
    assert set(WITH_OUTPUT) <= set(CALLS)
    assert set(CALLS) - {"lint"} <= set(WITH_OUTPUT)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_a_usage_error(name: str, taskyard: RunCommand) -> None:
    ended = taskyard(*name.split(), "--no-such-option")
    assert ended.code == 2
    assert ended.out == ""
    assert "--no-such-option" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("name", [name for name in WITH_OUTPUT if name not in NOT_CALLED])
def test_json_is_json_and_a_table_is_plain(
    name: str, taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_json = call(taskyard, name, "json", monkeypatch)
    assert as_json.code == 0, as_json.err
    document = as_json.document
    assert isinstance(document, list | dict)
    assert "\x1b" not in as_json.out + as_json.err


@pytest.mark.parametrize("name", [name for name in WITH_OUTPUT if name not in NOT_CALLED])
def test_json_lines_are_one_document_a_line(
    name: str, taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_lines = call(taskyard, name, "jsonl", monkeypatch)
    assert as_lines.code == 0, as_lines.err
    assert all(isinstance(json.loads(line), dict) for line in as_lines.out.splitlines())


@pytest.mark.parametrize("name", [name for name in WITH_OUTPUT if name not in NOT_CALLED])
def test_a_table_that_is_piped_has_no_colours(
    name: str, taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    table = call(taskyard, name, "table", monkeypatch)
    assert table.code == 0, table.err
    assert table.out
    assert "\x1b" not in table.out + table.err
    with pytest.raises(json.JSONDecodeError):
        json.loads(table.out)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in WITH_OUTPUT
        if "--url" in str([parameter.opts for parameter in COMMANDS[name].params])
    ],
)
def test_a_service_that_is_away_ends_with_5(
    name: str, taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKYARD_URL", "http://127.0.0.1:9")
    if name == "lint":
        pytest.skip("without an address it lints by itself")
    ended = taskyard(*name.split(), *CALLS[name], "-o", "json")
    assert ended.code == 5, ended.err
    assert ended.out == ""
    assert "next:" in ended.err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("taskyard ru", {"runs"}),
        ("taskyard plugins ", {"list", "new"}),
        ("taskyard tasks run --idem", {"--idempotency-key"}),
        ("taskyard doctor --output ", {"table", "json", "jsonl"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes(typed: str, offered: set[str], shell: str, tmp_path: Path) -> None:
    words = {
        "bash": {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": typed},
        "fish": {"_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    done = subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()"],
        env={**os.environ, "_TASKYARD_COMPLETE": f"complete_{shell}", **words[shell]},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for one in offered:
        assert one in done.stdout
