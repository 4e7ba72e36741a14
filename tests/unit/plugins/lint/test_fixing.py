"""A fix is given only when the text could be parsed before and can be afterwards."""

from typing import Any

import pytest

from app.plugins.lint.errors import LintFailed, LintFixRefused, LintTimeout, NotSqlText
from app.plugins.lint.fixing import Fixer
from app.plugins.lint.options import LintOptions
from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox import Answer
from app.plugins.lint.settings import LintSettings

ENGINE = {"name": "sqlfluff", "version": "9.9.9", "rust": True}
OPTIONS = LintOptions(profile=Profile("ansi"))
BROKEN = {
    "code": "PRS",
    "start_line_no": 2,
    "start_line_pos": 4,
    "description": "Line 2, Position 4: Found unparsable section: 'x'",
    "warning": False,
}
SPACING = {**BROKEN, "code": "LT01", "description": "Too wide."}


def fixer(record: dict[str, Any] | None, outcome: str = "linted", **settings: Any) -> Fixer:
    def sandbox(text: str, profile: Profile, deadline: float) -> Answer:
        asked.append((text, profile, deadline))
        return Answer(outcome, record, engine=ENGINE, seconds=0.5)

    asked.clear()
    return Fixer(LintSettings(**settings), sandbox)


asked: list[tuple[str, Profile, float]] = []


def fixed(text: str, *left: dict[str, Any]) -> dict[str, Any]:
    return {
        "before": {"violations": [SPACING], "found": 1},
        "after": {"violations": list(left), "found": len(left)},
        "fixed": text,
        "diff": "@@ -1 +1 @@\n-a\n+b\n",
    }


def test_the_document_tells_what_changed_and_what_is_left() -> None:
    document = fixer(fixed("SELECT a\n", SPACING)).fix("SELECT  a\n", OPTIONS, "a.sql")
    assert document["diff"] == "--- a/a.sql\n+++ b/a.sql\n@@ -1 +1 @@\n-a\n+b\n"
    assert (document["changed"], document["fixed_sql"]) == (True, "SELECT a\n")
    assert (document["violations_before"], document["violations_after"]) == (1, 1)
    assert document["remaining"] == [SPACING]
    assert (document["passed"], document["counts"]["warning"]) == (False, 1)
    assert (document["engine"], document["profile"]["dialect"]) == (ENGINE, "ansi")


def test_a_result_that_no_longer_parses_is_refused() -> None:
    with pytest.raises(LintFixRefused, match="cannot read any more") as caught:
        fixer(fixed("SELECT (\n", BROKEN)).fix("SELECT 1\n", OPTIONS, "a.sql")
    assert "line 2, position 4" in str(caught.value)


def test_a_text_with_syntax_errors_is_refused() -> None:
    record = {"before": {"violations": [SPACING, BROKEN], "found": 2}}
    with pytest.raises(LintFixRefused, match="cannot read is not fixed"):
        fixer(record).fix("SELECT (\n", OPTIONS, "a.sql")


@pytest.mark.parametrize(
    ("text", "error"),
    [("SELECT 1 -- " + "x" * 100, NotSqlText), ("SELECT\0", NotSqlText), ("\ud800", NotSqlText)],
)
def test_what_is_no_text_or_too_large_reaches_no_sandbox(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        fixer(fixed(""), max_fix_bytes=100).fix(text, OPTIONS, "a.sql")
    assert asked == []


@pytest.mark.parametrize(
    ("outcome", "error"),
    [("timeout", LintTimeout), ("memory", LintFailed), ("crashed", LintFailed)],
)
def test_what_broke_is_told_without_sql(outcome: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        fixer(None, outcome).fix("SELECT salary\n", OPTIONS, "a.sql")
    assert "salary" not in str(caught.value)


def test_a_fix_may_take_longer_than_a_lint_up_to_a_limit() -> None:
    fixer(fixed("")).fix("SELECT 1\n", OPTIONS, "a.sql")
    assert 10.0 < asked[0][2] < 10.1
    fixer(fixed("")).fix("-- " + "x" * 60_000, OPTIONS, "a.sql")
    assert asked[0][2] == 120.0


def test_directives_are_hidden_from_the_fix_and_come_back() -> None:
    text = "-- sqlfluff:dialect:tsql\nSELECT 1\n"
    hidden = "-- sqlfluf-:dialect:tsql\nSELECT 1\n"
    document = fixer(fixed(hidden)).fix(text, OPTIONS, "a.sql")
    assert asked[0][0] == hidden
    assert asked[0][1].dialect == "tsql"
    assert (document["fixed_sql"], document["changed"]) == (text, False)
    assert [notice["code"] for notice in document["notices"]] == ["DIRECTIVE_APPLIED"]


def test_a_text_that_imitates_the_disguise_keeps_its_own_words() -> None:
    text = "-- sqlfluff:dialect:tsql\n-- sqlfluf-:\nSELECT 1\n"
    hidden = "-- sqlfluf_:dialect:tsql\n-- sqlfluf-:\nSELECT 1\n"
    document = fixer(fixed(hidden)).fix(text, OPTIONS, "a.sql")
    assert asked[0][0] == hidden
    assert document["fixed_sql"] == text
    every = "".join(f"-- sqlfluf{letter}\n" for letter in "-_~+.=|^")
    with pytest.raises(LintFixRefused, match="imitates"):
        fixer(fixed("")).fix(every, OPTIONS, "a.sql")
