"""Findings are told again when lines move, are indented anew, or are edited."""

from typing import Any

import pytest

from app.plugins.lint.baselines import NamedFile, pair
from app.plugins.lint.comparing import Comparison, compare, fingerprints, marks_of

TEXT = """SELECT a
FROM t

SELECT b
FROM u

SELECT c
FROM v
"""


def record(text: str, *findings: tuple[str, int]) -> dict[str, Any]:
    violations = [
        {"code": code, "start_line_no": line, "description": f"{code} is broken"}
        for code, line in findings
    ]
    return {"violations": violations, "fingerprints": fingerprints(text, violations)}


def since(before: dict[str, Any], after: dict[str, Any]) -> Comparison:
    return compare(marks_of(before), marks_of(after))


def test_nothing_changed() -> None:
    same = record(TEXT, ("LT01", 1), ("LT01", 4), ("CP01", 4))
    assert since(same, same) == Comparison((False, False, False), ())


def test_moved_and_indented_lines_are_the_same() -> None:
    before = record(TEXT, ("LT01", 1), ("LT01", 7))
    moved = "-- a comment\n\n" + TEXT.replace("SELECT c", "    SELECT  c").replace("\n", "\r\n")
    after = record(moved, ("LT01", 3), ("LT01", 9))
    assert since(before, after) == Comparison((False, False), ())


def test_what_is_new_and_what_is_gone() -> None:
    before = record(TEXT, ("LT01", 1), ("CP01", 4))
    after = record(TEXT, ("LT01", 1), ("RF01", 7))
    assert since(before, after) == Comparison((False, True), (1,))


def test_a_second_one_of_a_kind_is_new() -> None:
    before = record(TEXT, ("LT01", 1))
    after = record(TEXT, ("LT01", 1), ("LT01", 1))
    assert since(before, after) == Comparison((False, True), ())
    assert since(after, before) == Comparison((False,), (1,))


def test_the_new_one_of_equal_lines_is_the_one_in_new_surroundings() -> None:
    before = record("SELECT a\n)\nSELECT b\n", ("LT01", 2))
    after = record("SELECT x\n)\nSELECT y\nSELECT a\n)\nSELECT b\n", ("LT01", 2), ("LT01", 5))
    assert since(before, after) == Comparison((True, False), ())


def test_an_edited_line_between_the_same_lines_keeps_its_finding() -> None:
    before = record(TEXT, ("LT05", 4), ("LT01", 4))
    after = record(TEXT.replace("SELECT b", "SELECT b, d"), ("LT05", 4))
    assert since(before, after) == Comparison((False,), (1,))


def test_a_line_in_another_place_is_another_one() -> None:
    before = record(TEXT, ("LT05", 4))
    after = record(TEXT.replace("SELECT c", "SELECT c, d"), ("LT05", 7))
    assert since(before, after) == Comparison((True,), (0,))


def test_documents_without_fingerprints_are_compared_by_what_they_say() -> None:
    old = {"violations": record(TEXT, ("LT01", 1), ("CP01", 4))["violations"]}
    new = {"violations": record(TEXT, ("LT01", 5), ("RF01", 4))["violations"]}
    assert since(old, new) == Comparison((False, True), (1,))


@pytest.mark.parametrize("line", [0, 1, 2, 99])
def test_a_place_outside_of_the_text_has_a_fingerprint(line: int) -> None:
    assert len(fingerprints("SELECT 1", [{"start_line_no": line}])[0]) == 17


def test_many_blank_lines_cost_little() -> None:
    violations = [{"start_line_no": line} for line in range(1, 50_000)]
    assert len(set(fingerprints("\n" * 50_000, violations))) == 1


def _files(*names: str) -> list[NamedFile]:
    return [NamedFile(f"{number}:{name}", name) for number, name in enumerate(names)]


def _pairs(before: list[NamedFile], after: list[NamedFile]) -> dict[str, str]:
    names = {file.task_id: file.name for file in (*before, *after)}
    return {names[mine]: names[theirs] for mine, theirs in pair(before, after).items()}


def test_files_are_paired_by_name() -> None:
    before, after = _files("a/x.sql", "b/x.sql", "gone.sql"), _files("b/x.sql", "new.sql")
    assert _pairs(before, after) == {"b/x.sql": "b/x.sql"}


def test_a_folder_around_everything_may_change_its_name() -> None:
    before, after = _files("shop-1/a.sql", "shop-1/b.sql"), _files("shop-2/b.sql", "shop-2/c.sql")
    assert _pairs(before, after) == {"shop-2/b.sql": "shop-1/b.sql"}
    flat = _files("a.sql", "b.sql")
    assert _pairs(before, flat) == {"a.sql": "shop-1/a.sql", "b.sql": "shop-1/b.sql"}


def test_two_single_files_are_the_same_file() -> None:
    assert _pairs(_files("query.sql"), _files("v2/report.sql")) == {"v2/report.sql": "query.sql"}


def test_no_earlier_file_is_taken_twice() -> None:
    before, after = _files("p/a.sql", "p/b.sql"), _files("p/a.sql", "a.sql", "q/a.sql")
    assert _pairs(before, after) == {"p/a.sql": "p/a.sql"}
