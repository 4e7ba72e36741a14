"""The catalogue is what the installed SQLFluff knows, and reading it does not import SQLFluff."""

import json
import subprocess
import sys

import pytest

from app.plugins.lint.catalogue import (
    RuleOption,
    UnknownNameError,
    catalogue,
    check_dialect,
    check_option,
    check_rule,
    check_rules,
)
from app.plugins.lint.catalogue_source import build_catalogue


def test_the_shipped_file_equals_the_installed_sqlfluff() -> None:
    built = build_catalogue()
    shipped = catalogue()
    assert shipped.sqlfluff_version == built["sqlfluff_version"]
    assert shipped.dialects == built["dialects"]
    assert [rule.code for rule in shipped.rules] == [rule["code"] for rule in built["rules"]]
    for ours, theirs in zip(shipped.rules, built["rules"], strict=True):
        assert (ours.name, ours.description) == (theirs["name"], theirs["description"])
        assert list(ours.groups) == theirs["groups"]
        assert list(ours.aliases) == theirs["aliases"]
        assert ours.fixable == theirs["fixable"]
    for key, theirs in zip(shipped.options, built["options"], strict=True):
        choices = tuple(theirs.get("choices", ()))
        assert shipped.options[key] == RuleOption(**{**theirs, "choices": choices})


def test_every_selector_is_one_that_sqlfluff_resolves() -> None:
    from sqlfluff.core import Linter

    known = set(Linter(dialect="ansi").get_rulepack().reference_map)
    assert catalogue().selectors == known


def test_the_source_prints_the_file() -> None:
    command = [sys.executable, "-m", "app.plugins.lint.catalogue_source"]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert json.loads(printed) == build_catalogue()


@pytest.mark.parametrize(
    ("given", "label"), [("mysql", "mysql"), (" PostgreS ", "postgres"), ("TSQL", "tsql")]
)
def test_a_dialect_is_found_in_any_case(given: str, label: str) -> None:
    assert check_dialect(given) == label


def test_an_unknown_dialect_names_near_ones() -> None:
    with pytest.raises(
        UnknownNameError, match=r"Unknown dialect 'postgress'.*'postgres'"
    ) as caught:
        check_dialect("postgress")
    assert caught.value.near[0] == "postgres"


def test_an_unknown_dialect_without_likeness_names_none() -> None:
    with pytest.raises(UnknownNameError) as caught:
        check_dialect("klingon" * 100)
    assert caught.value.near == []
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        ("lt01", "LT01"),
        ("layout", "layout"),
        ("L010", "L010"),
        ("Layout.Spacing", "layout.spacing"),
    ],
)
def test_a_rule_is_found_by_code_group_alias_and_name(given: str, spelled: str) -> None:
    assert check_rule(given) == spelled


def test_rules_are_sorted_and_stand_once() -> None:
    assert check_rules(["LT02", "lt01", "LT01"]) == ("LT01", "LT02")


def test_an_unknown_rule_names_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown rule 'layout.spaces'.*'layout.spacing'"):
        check_rules(["LT01", "layout.spaces"])


def test_the_api_side_of_the_plugin_does_not_import_sqlfluff() -> None:
    code = (
        "import sys, app.plugins.lint.routes, app.plugins.lint.tasks; "
        "print([m for m in sys.modules if m.split('.')[0] in ('sqlfluff', 'sqlfluffrs')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_worker_side_of_the_plugin_does_not_import_the_web_framework() -> None:
    code = (
        "import sys, app.plugins.lint.tasks; "
        "print([m for m in sys.modules if m.split('.')[0] in ('fastapi', 'starlette', 'sqlfluff')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_line_length", 120),
        ("indentation:indent_unit", "tab"),
        ("layout:type:comma:line_position", "leading"),
        ("rules:convention.terminator:require_final_semicolon", True),
        ("rules:convention.blocked_words:blocked_words", "leftpad, eval"),
    ],
)
def test_an_option_takes_what_sqlfluff_documents(key: str, value: bool | int | str) -> None:
    assert check_option(key, value) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("max_line_length", value) for value in (-1, 10_001, True, "80", 80.0, None)),
        *(("indentation:indent_unit", value) for value in ("Tab", 1, None)),
        *(
            ("rules:convention.terminator:require_final_semicolon", value)
            for value in (1, 0, "true", None)
        ),
        *(
            ("rules:convention.blocked_words:blocked_words", value)
            for value in ("", "a\nb", "x" * 1001, 7)
        ),
    ],
)
def test_another_value_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        check_option(key, value)


@pytest.mark.parametrize(
    "key",
    ["library_path", "templater:jinja:library_path", "core:dialect", "max_parse_depth", "noqa"],
)
def test_options_that_are_no_matter_of_style_do_not_exist(key: str) -> None:
    with pytest.raises(UnknownNameError):
        check_option(key, "x")
