"""`taskyard db` on SQLite."""

from pathlib import Path

import pytest

from tests.unit.cli.commands import Outcome, RunCommand, Typed, run_program

CORE = {"owner": "core", "bind": "postgres_main"}


def test_status_of_a_new_database(taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKYARD_PLUGINS", "[]")
    (unit,) = taskyard("db", "status").document
    assert unit | CORE == unit
    assert unit["current"] is None
    assert unit["pending"][-1] == unit["head"]


def test_upgrade_and_downgrade(installation: RunCommand) -> None:
    assert installation("db", "upgrade").document[0]["applied"] == []
    (after,) = installation("db", "status", "--owner", "core").document
    assert after["current"] == after["head"]
    (step,) = installation("db", "downgrade", "--yes").document
    assert step["applied"] == [after["head"]]
    (step,) = installation("db", "downgrade", "--to", "base").document
    assert step["after"] is None
    shown = installation("db", "upgrade", "-o", "table").out.splitlines()
    assert shown[0].split() == ["owner", "bind", "before", "after", "applied"]


def test_check_of_a_database_that_fits(installation: RunCommand) -> None:
    ended = installation("db", "check")
    assert ended.code == 0
    assert [drift["differences"] for drift in ended.document] == [[]]


def test_check_of_a_database_that_does_not_fit(installation: RunCommand) -> None:
    installation("db", "downgrade", "--yes")
    ended = installation("db", "check")
    assert ended.code == 1
    assert ended.document[0]["pending"]
    assert "DATABASE_DRIFT" in ended.err
    assert "next: taskyard db upgrade" in ended.err


@pytest.mark.parametrize("command", ["upgrade", "downgrade", "status", "check"])
def test_an_unknown_owner(command: str, installation: RunCommand) -> None:
    ended = installation("db", command, "--owner", "nobody")
    assert ended.code == 2
    assert "hint: There are: core/postgres_main." in ended.err


def test_downgrade_asks_on_a_terminal(
    installation: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Typed("n\n"))
    ended = installation("db", "downgrade")
    assert ended.code == 1
    assert "Take every owner back to '-1'?" in ended.err
    assert installation("db", "check").code == 0


def test_a_database_that_does_not_answer(
    taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKYARD_PLUGINS", "[]")
    url = "postgresql+asyncpg://me:hunter2@127.0.0.1:1/x"
    monkeypatch.setenv("TASKYARD_DATABASES__POSTGRES_MAIN__URL", url)
    ended = taskyard("db", "upgrade")
    assert ended.code == 5
    assert "DATABASE_UNAVAILABLE" in ended.err
    assert "hunter2" not in ended.err
    assert "Traceback" not in ended.err


def test_a_plugin_that_cannot_be_loaded(
    taskyard: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_plugin_for_tests.py").write_text("1 / 0", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TASKYARD_PLUGINS", '["broken_plugin_for_tests"]')
    ended = taskyard("db", "status")
    assert ended.code == 2
    assert "PLUGIN_LOAD_ERROR" in ended.err
    assert "broken_plugin_for_tests" in ended.err


REVISION_PLUGIN = {
    "__init__.py": "",
    "plugin.py": "from app import Plugin\nPLUGIN = Plugin(name='shelf', version='1')\n",
    "models.py": """
from sqlalchemy.orm import Mapped, mapped_column

from app.db import BasePostgres


class Shelf(BasePostgres):
    __tablename__ = "cli_test_shelves"

    id: Mapped[int] = mapped_column(primary_key=True)
""",
}


def test_revision_writes_a_file_and_says_where(tmp_path: Path) -> None:
    package = tmp_path / "shelf_plugin_for_tests"
    versions = package / "migrations" / "postgres_main" / "versions"
    versions.mkdir(parents=True)
    for name, text in REVISION_PLUGIN.items():
        (package / name).write_text(text, "utf-8")

    def taskyard(*arguments: str) -> Outcome:
        plugins = '["shelf_plugin_for_tests"]'
        return run_program(
            *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path), TASKYARD_PLUGINS=plugins
        )

    vague = taskyard("db", "revision", "-m", "Add shelves")
    assert vague.code == 2
    assert "core/postgres_main, shelf/postgres_main" in vague.err
    written = taskyard("db", "revision", "--owner", "shelf", "-m", "Add shelves")
    assert written.document == {
        "owner": "shelf",
        "bind": "postgres_main",
        "file": str(versions / "0001_add_shelves.py"),
    }
    assert "cli_test_shelves" in (versions / "0001_add_shelves.py").read_text("utf-8")
