"""`taskyard plugins new`: what it writes works at once; what it refuses is told with a cure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.commands import RunCommand, make_runner

LONGEST = "a" + "_long" * 7 + "_tag"


@pytest.fixture
def taskyard(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunCommand:
    monkeypatch.chdir(tmp_path)
    return make_runner(capsys)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHON")}
    return subprocess.run(
        ["make", "-C", str(folder), *arguments],
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_new_plugin_passes_its_tests_where_it_is_made(
    taskyard: RunCommand, tmp_path: Path
) -> None:
    made = taskyard("plugins", "new", "demo_plugin")
    assert made.code == 0, made.err
    assert made.document["next"] == "make -C demo_plugin test"
    here = make(tmp_path, "test")
    assert here.returncode == 0, here.stdout + here.stderr
    assert "passed" in here.stdout
    # The tests are real ones: they notice when the task is broken.
    tasks = tmp_path / "demo_plugin" / "demo_plugin" / "tasks.py"
    text = tasks.read_text("utf-8")
    tasks.write_text(text.replace("most_common(top)", "most_common()"), "utf-8")
    broken = make(tmp_path / "demo_plugin", "test")
    assert broken.returncode != 0
    assert "test_words_are_counted" in broken.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_new_plugin_keeps_the_rules_of_the_house(taskyard: RunCommand, tmp_path: Path) -> None:
    assert taskyard("plugins", "new", "demo_plugin").code == 0
    linted = make(tmp_path, "lint")
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize("name", ["aaa", LONGEST])
def test_the_length_of_a_name_breaks_no_line(
    name: str, taskyard: RunCommand, tmp_path: Path
) -> None:
    assert len(LONGEST) <= 40
    assert taskyard("plugins", "new", name).code == 0
    for step in (["check"], ["format", "--check"]):
        linted = subprocess.run(
            [sys.executable, "-m", "ruff", *step, "."],
            cwd=tmp_path / name,
            capture_output=True,
            text=True,
            check=False,
        )
        assert linted.returncode == 0, linted.stdout


def test_everything_is_written_and_every_blank_filled(taskyard: RunCommand, tmp_path: Path) -> None:
    made = taskyard("plugins", "new", "demo_plugin", "--path", "some/where").document
    folder = tmp_path / "some" / "where" / "demo_plugin"
    assert made["folder"] == "some/where/demo_plugin"
    assert sorted(made["files"]) == sorted(
        str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()
    )
    assert {"demo_plugin/plugin.py", "tests/test_tasks.py", ".gitignore"} <= set(made["files"])
    for file in made["files"]:
        assert "{{" not in (folder / file).read_text("utf-8"), file
    assert sys.executable in (folder / "Makefile").read_text("utf-8")


def test_only_an_empty_folder_gets_a_makefile(taskyard: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    taskyard("plugins", "new", "demo_plugin")
    assert not (tmp_path / "Makefile").exists()
    taskyard("plugins", "new", "demo_plugin", "--path", "empty")
    makefile = tmp_path / "empty" / "Makefile"
    written = makefile.read_text("utf-8")
    taskyard("plugins", "new", "other_plugin", "--path", "empty")
    assert makefile.read_text("utf-8") == written


@pytest.mark.parametrize(
    ("name", "told", "cure"),
    [
        ("My-Plugin", "is no name for a plugin", "'my_plugin'"),
        ("1st", "is no name for a plugin", "a letter first"),
        ("", "is no name for a plugin", "a letter first"),
        ("../up", "is no name for a plugin", "'up'"),
        ("x" * 41, "is no name for a plugin", "up to 40 characters"),
        ("ünicode", "is no name for a plugin", "'nicode'"),
        ("class", "is a word of Python", "class_tasks"),
        ("match", "is a word of Python", "match_tasks"),
        ("lint", "A plugin called 'lint' is loaded already", "another name"),
        ("json", "'import json' means another package", "'json_plugin'"),
        ("sqlalchemy", "'import sqlalchemy' means another package", "'sqlalchemy_plugin'"),
        ("app", "'import app' means another package", "'app_plugin'"),
        ("tests", "'import tests' means another package", "'tests_plugin'"),
    ],
)
def test_a_name_that_cannot_work_is_refused_with_a_cure(
    name: str, told: str, cure: str, taskyard: RunCommand, tmp_path: Path
) -> None:
    refused = taskyard("plugins", "new", "--", name)
    assert refused.code == 2
    assert told in refused.err
    assert cure in refused.err
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_not_touched(taskyard: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "demo_plugin").mkdir()
    refused = taskyard("plugins", "new", "demo_plugin")
    assert refused.code == 1
    assert "exists already" in refused.err
    assert list((tmp_path / "demo_plugin").iterdir()) == []


def test_a_place_that_is_no_folder_is_told(taskyard: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = taskyard("plugins", "new", "demo_plugin", "--path", "file/below")
    assert refused.code == 1
    assert "cannot be written" in refused.err
