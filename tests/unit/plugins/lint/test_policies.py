"""Severities, what they count, and what passes."""

import pytest

from app.plugins.lint.policies import (
    Counts,
    FailOn,
    Policy,
    Severity,
    expand_severities,
    tally_of,
)


def _violation(code: str, *, warning: bool = False) -> dict[str, object]:
    return {"code": code, "warning": warning}


def test_rules_are_warnings_and_syntax_errors_are_errors() -> None:
    policy = Policy()
    assert policy.severity("LT01") is Severity.WARNING
    assert policy.severity("LT01", only_warned=True) is Severity.NOTE
    assert {policy.severity(code) for code in ("PRS", "LXR", "TMP")} == {Severity.ERROR}
    lenient = Policy((("PRS", Severity.NOTE),))
    assert lenient.severity("PRS") is Severity.ERROR


def test_findings_are_counted_by_severity() -> None:
    policy = Policy((("CP01", Severity.NOTE), ("RF01", Severity.ERROR)))
    found = [*map(_violation, ["LT01", "LT01", "CP01", "RF01", "PRS"]), _violation("LT02")]
    found.append(_violation("RF01", warning=True))
    tally = tally_of(found)
    assert policy.count(tally) == Counts(error=2, warning=3, note=2)
    assert policy.count({}) == Counts()


@pytest.mark.parametrize(
    ("fail_on", "passing"),
    [
        (FailOn.ERROR, [Counts(), Counts(note=1), Counts(warning=1)]),
        (FailOn.WARNING, [Counts(), Counts(note=1)]),
        (FailOn.NOTE, [Counts()]),
        (FailOn.NEVER, [Counts(), Counts(note=1), Counts(warning=1), Counts(error=1)]),
    ],
)
def test_what_is_as_bad_as_the_threshold_does_not_pass(
    fail_on: FailOn, passing: list[Counts]
) -> None:
    each = [Counts(), Counts(note=1), Counts(warning=1), Counts(error=1)]
    assert [one for one in each if Policy(fail_on=fail_on).passes(one)] == passing


def test_a_policy_comes_back_from_its_json() -> None:
    policy = Policy((("CP01", Severity.NOTE), ("LT01", Severity.ERROR)), FailOn.NOTE)
    assert Policy.from_json(policy.to_json()) == policy
    assert Policy.from_json({}) == Policy()


def test_the_narrower_selector_counts() -> None:
    chosen = {"LT01": "error", "all": "note", "layout": "off", "layout.indent": "warning"}
    expanded = expand_severities(chosen)
    assert expanded["LT01"] == "error"
    assert expanded["LT02"] == "warning"
    assert expanded["LT05"] == "off"
    assert expanded["CP01"] == "note"
