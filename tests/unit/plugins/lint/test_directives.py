"""In-file directives: the harmless ones are applied, no other has an effect, lines stay."""

import pytest

from app.plugins.lint.directives import read_directives
from app.plugins.lint.profiles import Profile

ANSI = Profile("ansi")


def _codes(text: str) -> list[tuple[str, int | None]]:
    return [(notice.code, notice.line) for notice in read_directives(text, ANSI)[2]]


def test_a_text_without_directives_stays_the_same_object() -> None:
    text = "SELECT 1 -- sql\n"
    assert read_directives(text, ANSI) == (text, ANSI, [])


@pytest.mark.parametrize("mark", ["-- sqlfluff:", "--sqlfluff:"])
def test_the_dialect_is_applied(mark: str) -> None:
    text, profile, notices = read_directives(f"{mark}dialect:MySQL\nSELECT 1\n", ANSI)
    assert profile.dialect == "mysql"
    assert notices[0].to_json() == {
        "code": "DIRECTIVE_APPLIED",
        "message": "The directive 'dialect' was applied.",
        "line": 1,
    }
    assert "sqlfluff" not in text


def test_rules_and_exclusions_are_applied() -> None:
    text = "-- sqlfluff:rules:lt01, CP01\n--sqlfluff:exclude_rules:LT05\n"
    _, profile, _ = read_directives(text, Profile("ansi", exclude_rules=("AM05",)))
    assert profile.rules == ("CP01", "LT01")
    assert profile.exclude_rules == ("AM05", "LT05")


@pytest.mark.parametrize(
    ("directive", "option"),
    [
        ("max_line_length:120", ("max_line_length", 120)),
        ("indentation:tab_space_size:2", ("indentation:tab_space_size", 2)),
        ("indentation:indent_unit:TAB", ("indentation:indent_unit", "tab")),
        (
            "rules:capitalisation.keywords:capitalisation_policy:upper",
            ("rules:capitalisation.keywords:capitalisation_policy", "upper"),
        ),
    ],
)
def test_harmless_options_are_applied(directive: str, option: tuple[str, object]) -> None:
    _, profile, _ = read_directives(f"-- sqlfluff:{directive}\n", ANSI)
    assert profile.options == (option,)


@pytest.mark.parametrize(
    "directive",
    [
        "library_path:/tmp/lib",
        "templater:jinja",
        "templater:jinja:library_path:/tmp/lib",
        "templater:jinja:loader_search_path:/etc",
        "templater:jinja:load_macros_from_path:/tmp",
        "max_parse_depth:0",
        "max_parse_nodes:0",
        "rust_parser_max_iterations:1",
        "render_variant_limit:100000",
        "runaway_limit:100000",
        "large_file_skip_byte_limit:0",
        "ignore:parsing",
        "disable_noqa:True",
        "dialect:nope",
        "rules:XX99",
        "exclude_rules:all,XX99",
        "max_line_length:1e9",
        "max_line_length:99999999999999999999",
        "max_line_length:-1",
        "indentation:tab_space_size:0",
        "indentation:indent_unit:elephant",
        "dialect=mysql",
        ":",
    ],
)
def test_everything_else_has_no_effect_and_is_reported(directive: str) -> None:
    text, profile, notices = read_directives(f"SELECT 1;\n-- sqlfluff:{directive}\n", ANSI)
    assert profile == ANSI
    assert [(notice.code, notice.line) for notice in notices] == [("DIRECTIVE_IGNORED", 2)]
    assert "-- sqlfluff" not in text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_a_directive_is_found_after_every_line_end_that_sqlfluff_knows(end: str) -> None:
    text = f"SELECT 1{end}-- sqlfluff:templater:jinja{end}"
    neutral, _, notices = read_directives(text, ANSI)
    assert "-- sqlfluff" not in neutral
    assert len(notices) == 1
    assert len(neutral.splitlines()) == len(text.splitlines())


def test_lines_keep_number_and_length() -> None:
    text = "/*\n-- sqlfluff:dialect:mysql\n*/\nSELECT 1\n"
    neutral, _, _ = read_directives(text, ANSI)
    assert [len(line) for line in neutral.splitlines()] == [len(x) for x in text.splitlines()]
    assert neutral.splitlines()[3] == "SELECT 1"


def test_an_indented_directive_and_a_plain_comment_are_none() -> None:
    text = "  -- sqlfluff:dialect:mysql\n-- sqlfluff is a linter\n"
    neutral, profile, notices = read_directives(text, ANSI)
    assert (profile, notices) == (ANSI, [])
    assert "-- sqlfluff is" not in neutral


def test_many_directives_give_a_bounded_list_of_notices() -> None:
    notices = _codes("-- sqlfluff:templater:jinja\n" * 5000)
    assert len(notices) == 21
    assert notices[-1] == ("DIRECTIVES_NOT_LISTED", None)


def test_a_long_key_is_cut_in_the_notice() -> None:
    _, _, notices = read_directives(f"-- sqlfluff:{'k' * 10_000}:1\n", ANSI)
    assert len(notices[0].message) < 200


def test_a_strict_profile_obeys_no_directive() -> None:
    strict = Profile("ansi", strict=True)
    text, profile, notices = read_directives("-- sqlfluff:dialect:tsql\nSELECT 1\n", strict)
    assert profile == strict
    assert "sqlfluff:" not in text
    assert [notice.code for notice in notices] == ["DIRECTIVE_IGNORED"]


def test_a_profile_survives_the_wire_and_has_a_stable_digest() -> None:
    profile = Profile("mysql", ("LT01",), ("CP01",), (("max_line_length", 100),))
    assert Profile.from_wire(profile.to_wire()) == profile
    assert Profile.from_wire(ANSI.to_wire()) == ANSI
    assert profile.digest() == Profile.from_wire(profile.to_wire()).digest()
    assert profile.digest() != ANSI.digest()
