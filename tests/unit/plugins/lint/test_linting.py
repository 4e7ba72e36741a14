"""From a file to its report, with a sandbox that answers as told."""

from typing import Any

import pytest

from app.plugins.lint.comparing import fingerprints
from app.plugins.lint.linting import Linter
from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox import Answer
from app.plugins.lint.sandbox_frames import STARVED
from app.plugins.lint.settings import LintSettings

ANSI = Profile("ansi")
ENGINE = {"name": "sqlfluff", "version": "9.9.9", "rust": True}
STATISTICS = {"source_chars": 1, "templated_chars": 1, "segments": 1, "raw_segments": 1}


def _violation(code: str, line: int = 1, description: str = "words") -> dict[str, Any]:
    return {
        "start_line_no": line,
        "start_line_pos": 2,
        "code": code,
        "description": description,
        "name": "",
        "warning": False,
    }


def _record(*violations: dict[str, Any], parsed: bool = True, **more: int) -> dict[str, Any]:
    return {
        "violations": list(violations),
        "found": len(violations),
        "noqa_comments": 0,
        "statistics": STATISTICS,
        "parsed": parsed,
        **more,
    }


class FakeSandbox:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Profile, float]] = []

    def __call__(self, text: str, profile: Profile, deadline_seconds: float) -> Answer:
        self.asked.append((text, profile, deadline_seconds))
        return self.answer


def _linter(answer: Answer, **settings: Any) -> tuple[Linter, FakeSandbox]:
    sandbox = FakeSandbox(answer)
    return Linter(LintSettings(**settings), sandbox), sandbox


def _linted(record: dict[str, Any]) -> Answer:
    return Answer("linted", record, seconds=0.25, engine=ENGINE)


def test_the_document_has_the_fields_that_clients_rely_on() -> None:
    linter, _ = _linter(_linted(_record(_violation("LT01"))))
    report = linter.lint_text("SELECT 1", ANSI, file_name="a.sql")
    assert report.linted
    assert report.message is None
    assert report.document == {
        "file_name": "a.sql",
        "dialect": "ansi",
        "sqlfluff_version": "9.9.9",
        "status": "linted",
        "violations": [_violation("LT01")],
        "statistics": {**STATISTICS, "violations": 1, "noqa_comments": 0, "duration_ms": 250},
        "notices": [],
        "engine": ENGINE,
        "profile": {
            "dialect": "ansi",
            "rules": None,
            "exclude_rules": [],
            "options": {},
            "templater": "raw",
            "digest": ANSI.digest(),
        },
        "fingerprints": fingerprints("SELECT 1", [_violation("LT01")]),
    }


def test_directives_reach_the_profile_and_not_the_text() -> None:
    linter, sandbox = _linter(_linted(_record()))
    text = "-- sqlfluff:dialect:mysql\n-- sqlfluff:templater:jinja\nSELECT 1\n"
    report = linter.lint_text(text, ANSI, file_name="a.sql")
    sent, profile, _ = sandbox.asked[0]
    assert "sqlfluff" not in sent
    assert profile.dialect == "mysql"
    assert report.document is not None
    assert report.document["dialect"] == "mysql"
    codes = [notice["code"] for notice in report.document["notices"]]
    assert codes == ["DIRECTIVE_APPLIED", "DIRECTIVE_IGNORED"]


def test_the_deadline_grows_with_the_file_up_to_a_limit() -> None:
    linter, sandbox = _linter(_linted(_record()), deadline_max_seconds=5)
    for size in (0, 1024, 2048, 1024 * 1024):
        linter.lint_bytes(b"x" * size, ANSI, file_name="a.sql", max_bytes=2**21)
    assert [round(asked[2], 3) for asked in sandbox.asked] == [2.0, 2.4, 2.8, 5.0]


def test_a_mark_at_the_start_is_removed_and_a_guess_is_noted() -> None:
    linter, sandbox = _linter(_linted(_record()))
    report = linter.lint_bytes(b"SELECT '\xe9'", ANSI, file_name="a.sql", max_bytes=100)
    linter.lint_text("\ufeffSELECT 1", ANSI, file_name="a.sql")
    assert [asked[0] for asked in sandbox.asked] == ["SELECT 'é'", "SELECT 1"]
    assert report.document is not None
    assert report.document["notices"][0]["code"] == "ENCODING_GUESSED"


def test_an_unparsable_file_has_a_document_and_a_reason() -> None:
    description = "Line 5, Position 2: Found unparsable section: 'FORM\n x'. Expected: <Sequence"
    record = _record(_violation("CP01"), _violation("PRS", 5, description), parsed=False)
    report = _linter(_linted(record))[0].lint_text("x", ANSI, file_name="a.sql")
    assert report.outcome == "unparsable"
    assert not report.linted
    assert report.message == (
        "Syntax error on line 5, position 2: Found unparsable section: 'FORM x'."
    )
    assert report.document is not None
    assert report.document["status"] == "unparsable"


def test_a_partly_parsed_file_is_linted_with_a_notice() -> None:
    report = _linter(_linted(_record(_violation("PRS", 7))))[0].lint_text(
        "x", ANSI, file_name="a.sql"
    )
    assert report.outcome == "linted"
    assert report.document is not None
    (notice,) = report.document["notices"]
    assert (notice["code"], notice["line"]) == ("PARTLY_PARSED", 7)


def test_hidden_and_cut_violations_are_noted() -> None:
    record = _record(_violation("LT01"), found=3, noqa_comments=2)
    report = _linter(_linted(record))[0].lint_text("x", ANSI, file_name="a.sql")
    assert report.document is not None
    codes = [notice["code"] for notice in report.document["notices"]]
    assert codes == ["VIOLATIONS_CUT", "VIOLATIONS_SUPPRESSED"]
    assert report.document["statistics"]["violations"] == 3


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (Answer("timeout"), "did not end within 2.0 s"),
        (Answer("memory"), "more memory"),
        (Answer("crashed", reason="SIGABRT"), "SIGABRT"),
        (Answer("refused", reason="no such option"), "no such option"),
    ],
)
def test_what_ended_without_an_answer_has_a_message_without_sql(answer: Answer, word: str) -> None:
    report = _linter(answer)[0].lint_text("SELECT secret", ANSI, file_name="a.sql")
    assert report.outcome == answer.outcome
    assert report.document is None
    assert word in (report.message or "")
    assert "secret" not in (report.message or "")


def test_a_limit_of_the_parser_is_not_called_a_syntax_error() -> None:
    description = "Maximum parse node count exceeded (limit 100000)."
    record = _record(_violation("PRS", 1, description), parsed=False)
    report = _linter(_linted(record))[0].lint_text("x", ANSI, file_name="a.sql")
    assert report.message == f"SQLFluff's parser gave up on this file: {description}"


@pytest.mark.parametrize(
    "first", [Answer("crashed", reason="SIGKILL"), Answer("timeout", reason=STARVED)]
)
@pytest.mark.parametrize(("second", "outcome"), [("linted", "linted"), ("crashed", "crashed")])
def test_what_the_machine_did_to_a_lint_is_tried_once_more(
    first: Answer, second: str, outcome: str
) -> None:
    answers = [first, Answer("crashed", reason="SIGKILL")]
    if second == "linted":
        answers[1] = _linted(_record())
    linter = Linter(LintSettings(), lambda *_: answers.pop(0))
    assert linter.lint_text("x", ANSI, file_name="a.sql").outcome == outcome
    assert answers == []


def test_a_time_out_of_the_files_own_is_final() -> None:
    answers = [Answer("timeout"), _linted(_record())]
    linter = Linter(LintSettings(), lambda *_: answers.pop(0))
    assert linter.lint_text("x", ANSI, file_name="a.sql").outcome == "timeout"
    assert len(answers) == 1


def test_what_cannot_be_linted_never_reaches_the_sandbox() -> None:
    linter, sandbox = _linter(_linted(_record()), max_text_bytes=10)
    assert linter.lint_text("x" * 11, ANSI, file_name="a").outcome == "too_large"
    assert linter.lint_text("a\0b", ANSI, file_name="a").outcome == "binary"
    assert linter.lint_bytes(b"x" * 6, ANSI, file_name="a", max_bytes=5).outcome == "too_large"
    assert linter.lint_bytes(b"\0", ANSI, file_name="a", max_bytes=5).outcome == "binary"
    assert sandbox.asked == []
