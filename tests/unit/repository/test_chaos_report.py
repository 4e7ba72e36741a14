"""The table of the guarantees is written by the run, line by line."""

from pathlib import Path

import pytest

from scripts.chaos_lib import __main__ as chaos
from scripts.chaos_lib.report import GUIDE, Row, write
from scripts.chaos_lib.rows import ROWS, told
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
    table = write(key, row, seed=seed, date="2026-01-02", guide=guide)
    return table.splitlines()[2:]


def test_rows_are_put_between_the_marks_and_nothing_else_changes(guide: Path) -> None:
    (line,) = put(guide, "kills", "0 of 10")
    told = "| `kills` | what kills does | 0 lost | 0 of 10 | yes | seed 1, 2026-01-02, "
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
