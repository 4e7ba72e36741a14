"""What is counted, and that no file can make the labels grow."""

from prometheus_client import REGISTRY

from app.plugins.lint.metrics import count_file, count_fix, count_lint


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"taskyard_lint_{name}", labels) or 0


def test_files_are_counted_by_status_and_source() -> None:
    before = value("files_total", status="linted", cached="yes")
    count_file("linted", cached=True)
    count_file("linted")
    assert value("files_total", status="linted", cached="yes") == before + 1


def test_a_lint_is_timed_by_dialect_and_its_violations_counted_by_rule() -> None:
    seconds, found = value("seconds_sum", dialect="mysql"), value("violations_total", rule="LT01")
    count_lint("mysql", 0.5, ["LT01", "PRS", "LT01"])
    assert value("seconds_sum", dialect="mysql") == seconds + 0.5
    assert value("violations_total", rule="LT01") == found + 2
    assert value("violations_total", rule="PRS") >= 1


def test_fixes_are_counted_by_what_became_of_them() -> None:
    before = value("fixes_total", outcome="refused")
    count_fix("refused")
    assert value("fixes_total", outcome="refused") == before + 1


def test_an_unknown_code_has_no_label_of_its_own() -> None:
    before = value("violations_total", rule="other")
    count_lint("ansi", 0.1, ["SELECT secret", "ZZ99"])
    assert value("violations_total", rule="other") == before + 2
    assert value("violations_total", rule="ZZ99") == 0
