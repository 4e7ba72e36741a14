"""The table of the guarantees is written by the run, line by line."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.chaos_lib import __main__ as chaos
from scripts.chaos_lib.report import GUIDE, Row, commit, how, write
from scripts.chaos_lib.rows import ROWS, told
from scripts.chaos_lib.yard import Yard
from tests.integration.faults.verdict import Verdict

MARKS = "<!-- chaos: written by `make chaos` -->\n\n<!-- chaos: end -->"


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    path = tmp_path / "guide.md"
    path.write_text(f"Before.\n\n{MARKS}\n\nAfter.\n")
    return path


def put(guide: Path, key: str, measured: str, *, met: bool = True, seed: int = 1) -> list[str]:
    """The lines of the table below its head."""
    row = Row(f"what {key} does", "0 lost", measured, met=met)
    table = write(key, row, how(seed, "abc of 2026-01-02", 60.4), guide=guide)
    return table.splitlines()[2:]


def test_rows_are_put_between_the_marks_and_nothing_else_changes(guide: Path) -> None:
    (line,) = put(guide, "kills", "0 of 10")
    told = (
        "| `kills` | what kills does | 0 lost | 0 of 10 | yes | seed 1, abc of 2026-01-02, 60 s, "
    )
    assert line.startswith(told)
    text = guide.read_text()
    assert text.startswith("Before.\n\n<!-- chaos: written")
    assert text.endswith("<!-- chaos: end -->\n\nAfter.\n")


def test_a_row_that_ran_again_takes_the_place_of_its_old_line(guide: Path) -> None:
    put(guide, "kills", "0 lost")
    put(guide, "cancels", "0 lost")
    lines = put(guide, "kills", "3 lost", met=False, seed=2)
    assert [line.split(" | ")[0] for line in lines] == ["| `kills`", "| `cancels`"]
    assert "| 3 lost | **no** | seed 2" in lines[0]
    assert "seed 1" in lines[1]


def test_a_row_that_broke_off_says_so_in_its_own_line(guide: Path) -> None:
    put(guide, "kills", "0 of 10")
    row = Row.of_failure(TimeoutError("not within\n90 s: a | b"))
    (line,) = write("kills", row, "seed 2", guide=guide).splitlines()[2:]
    told = "| broke off: TimeoutError: not within 90 s: a / b | **no** | seed 2 |"
    assert line == f"| `kills` | what kills does | 0 lost {told}"


def test_the_code_is_told_by_its_commit(tmp_path: Path) -> None:
    # No settings of the machine, and no repository around the folder.
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CEILING_DIRECTORIES": "/"}

    def git(*arguments: str) -> str:
        names = ["-c", "user.name=A", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *names, *arguments]
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        return ended.stdout.strip()

    assert commit(tmp_path, environ) == "no commit known"
    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "One", "--date", "2026-01-02T03:04:05Z")
    clean = commit(tmp_path, environ)
    assert clean.startswith(f"{git('rev-parse', '--short', 'HEAD')} of 20")
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path, environ) == f"{clean} with changes"


def breaks(_: Yard) -> Iterator[Row]:
    raise TimeoutError("a task")


def holds(_: Yard) -> Iterator[Row]:
    yield Row("what holds", "0 lost", "0 of 3", met=True)


@contextlib.contextmanager
def no_servers(seed: int, scale: float) -> Iterator[Any]:
    yield SimpleNamespace(kit=SimpleNamespace(keep_folder=lambda: "a folder"))


def test_a_row_that_breaks_off_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"breaks": breaks, "holds": holds}
    assert chaos.main(["--no-write"], rows=rows, servers=no_servers) == 1
    before, summary = capsys.readouterr().out.split("chaos: what ran\n")
    assert "its logs stay in a folder" in before
    first, second, *_ = summary.splitlines()
    assert "NOT MET" in first
    assert "broke off: TimeoutError: a task" in first
    assert second.endswith("0 of 3")
    assert chaos.main(["--no-write", "--only", "holds"], rows=rows, servers=no_servers) == 0


def test_servers_that_do_not_start_stop_no_row_but_theirs() -> None:
    tries = iter([True, False])

    @contextlib.contextmanager
    def servers(seed: int, scale: float) -> Iterator[Any]:
        if next(tries):
            raise OSError("no port")
        yield None

    seen = []

    def note(yard: Yard) -> Iterator[Row]:
        seen.append(yard)
        yield from holds(yard)

    assert chaos.main(["--no-write"], rows={"one": note, "two": note}, servers=servers) == 1
    assert len(seen) == 1


def test_the_guide_has_the_marks() -> None:
    before, begin, rest = GUIDE.read_text().partition(MARKS.split("\n", maxsplit=1)[0])
    assert before
    assert begin
    assert "<!-- chaos: end -->" in rest


def test_a_verdict_is_told_in_the_words_of_the_bars() -> None:
    good = Verdict(9, 0, 0, 0, 0, 0, 0, 0, started_again=2, retried=2)
    assert told(good) == "0 lost, 0 recorded twice, 0 stuck of 9"
    bad = Verdict(9, 1, 2, 3, 4, 5, 0, 0, 0, 0)
    assert told(bad) == "1 lost, 4 recorded twice, 2 stuck of 9, 3 failed, 5 stale writes"
    assert good.faults == {}
    assert bad.faults["lost"] == 1


def test_an_unknown_row_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        chaos.main(["--only", "kils"])
    answer = capsys.readouterr().err
    assert "kils" in answer
    assert all(name in answer for name in ROWS)
