"""The guard by itself, in this process and without the sandbox: no directive reaches SQLFluff."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.plugins.lint.catalogue import RuleOption, catalogue
from app.plugins.lint.engine import LintEngine, ProfileRefusedError, engine_facts
from app.plugins.lint.profiles import OptionValue, Profile
from tests.unit.plugins.lint.attacks import ATTACKS, set_trap

ANSI = Profile("ansi")
MANY = 10_000


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    return set_trap(tmp_path)


@pytest.fixture(scope="module")
def engine() -> LintEngine:
    made = LintEngine()
    made.prepare(ANSI)
    return made


def _codes(record: dict[str, Any]) -> list[str]:
    return [violation["code"] for violation in record["violations"]]


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_runs_code_or_reads_a_file(engine: LintEngine, trap: Path, name: str) -> None:
    text = ATTACKS[name].format(trap=trap) + "SELECT 1\n"
    record = engine.lint(text, ANSI, MANY)
    assert not (trap.parent / "PWNED").exists()
    assert "the-secret-of-the-host" not in str(record)


def test_the_attack_is_real_without_the_guard(trap: Path) -> None:
    text = ATTACKS["jinja library path"].format(trap=trap)
    code = f"import sqlfluff; sqlfluff.lint({text!r}, dialect='ansi')"
    subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert (trap.parent / "PWNED").exists()


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(2000) %}{% for b in range(2000) %}x{% endfor %}{% endfor %}\n",
        "SELECT '{{ 'a' * 10 ** 7 }}'\n",
        "SELECT {{ ''.__class__.__mro__ }}\n",
        "SELECT {{ range(100001) }}\n",
    ],
)
def test_templates_are_text(engine: LintEngine, text: str) -> None:
    record = engine.lint(text, ANSI, MANY)
    assert record["statistics"]["templated_chars"] in {0, len(text)}


def test_limits_cannot_be_lifted_from_the_text(engine: LintEngine) -> None:
    text = "-- sqlfluff:max_parse_depth:0\nSELECT " + "(" * 300 + "1" + ")" * 300 + "\n"
    record = engine.lint(text, ANSI, MANY)
    assert _codes(record) == ["PRS"]
    assert "depth" in record["violations"][0]["description"]
    assert not record["parsed"]


def test_a_dialect_in_the_text_is_not_obeyed(engine: LintEngine) -> None:
    record = engine.lint("-- sqlfluff:dialect:nope\nSELECT 1\n", ANSI, MANY)
    assert record["parsed"]


def test_records_are_sqlfluffs_own(engine: LintEngine) -> None:
    import sqlfluff

    text = "select a , B FROM c join d on x=y\n"
    assert engine.lint(text, ANSI, MANY)["violations"] == sqlfluff.lint(text, dialect="ansi")


def test_a_linter_gives_the_same_answer_again(engine: LintEngine) -> None:
    text = "select a,b from c\nwhere  x = NULL"
    first = engine.lint(text, ANSI, MANY)
    engine.lint("SELECT 1;\nselect 2", ANSI, MANY)
    assert engine.lint(text, ANSI, MANY) == first


def test_rules_and_options_of_the_profile_count() -> None:
    engine = LintEngine()
    text = "SELECT a,b FROM c\n"
    only = Profile("ansi", rules=("LT01",))
    without = Profile("ansi", exclude_rules=("LT01", "LT09"))
    short = Profile("ansi", rules=("LT05",), options=(("max_line_length", 10),))
    for profile in (only, without, short):
        engine.prepare(profile)
    assert _codes(engine.lint(text, only, MANY)) == ["LT01"]
    assert _codes(engine.lint(text, without, MANY)) == []
    assert _codes(engine.lint(text, short, MANY)) == ["LT05"]


def test_options_in_sections_count() -> None:
    engine = LintEngine()
    key = "rules:capitalisation.keywords:capitalisation_policy"
    profile = Profile("ansi", rules=("CP01",), options=((key, "lower"),))
    engine.prepare(profile)
    assert _codes(engine.lint("SELECT 1\n", profile, MANY)) == ["CP01"]


def test_every_option_of_the_catalogue_is_one_that_sqlfluff_takes() -> None:
    def other(option: RuleOption) -> OptionValue:
        if option.choices:
            return next(choice for choice in option.choices if choice != option.default)
        return "words" if option.maximum is None else option.maximum

    options = {key: other(option) for key, option in catalogue().options.items()}
    profile = Profile("ansi", options=tuple(sorted(options.items())))
    engine = LintEngine()
    engine.prepare(profile)
    record = engine.lint("SELECT a, b FROM c\n", profile, MANY)
    assert "CV06" in _codes(record)  # The final semicolon that one of them asks for.


def test_the_place_of_commas_counts() -> None:
    engine = LintEngine()
    option = ("layout:type:comma:line_position", "leading")
    leading = Profile("ansi", rules=("LT04",), options=(option,))
    trailing = Profile("ansi", rules=("LT04",))
    for profile in (leading, trailing):
        engine.prepare(profile)
    text = "SELECT\n    a\n    , b\nFROM c\n"
    assert _codes(engine.lint(text, leading, MANY)) == []
    assert _codes(engine.lint(text, trailing, MANY)) == ["LT04"]


def test_a_strict_lint_obeys_no_noqa(engine: LintEngine) -> None:
    text = "SELECT a,b FROM c -- noqa\n"
    strict = Profile("ansi", strict=True)
    engine.prepare(strict)
    assert _codes(engine.lint(text, ANSI, MANY)) == []
    assert sorted(_codes(engine.lint(text, strict, MANY))) == ["LT01", "LT09"]


def test_a_fix_is_linted_again(engine: LintEngine) -> None:
    record = engine.fix("\ufeffselect a  from b\r\n", ANSI, MANY)
    assert record["fixed"] == "\ufeffselect a from b\r\n"
    assert (_codes(record["before"]), _codes(record["after"])) == (["LT01"], [])
    assert record["diff"].startswith("@@ -1 +1 @@\n-\ufeffselect a  from b\r\n")


def test_what_cannot_be_parsed_is_not_fixed(engine: LintEngine) -> None:
    record = engine.fix("select a  from b;\nselec c\n", ANSI, MANY)
    assert set(record) == {"before"}
    assert "PRS" in _codes(record["before"])


def test_noqa_is_counted_and_can_be_switched_off(engine: LintEngine) -> None:
    text = "SELECT a,b FROM c -- noqa\n"
    allowed = engine.lint(text, ANSI, MANY)
    assert (_codes(allowed), allowed["noqa_comments"]) == ([], 1)
    strict = LintEngine(allow_noqa=False)
    strict.prepare(ANSI)
    refused = strict.lint(text, ANSI, MANY)
    assert (sorted(_codes(refused)), refused["noqa_comments"]) == (["LT01", "LT09"], 0)


def test_a_long_list_of_violations_is_cut(engine: LintEngine) -> None:
    record = engine.lint("SELECT a,b,c,d,e,f FROM g\n", ANSI, 2)
    assert len(record["violations"]) == 2
    assert record["found"] > 2


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("SELECT 1;\n", True),
        ("", True),
        ("-- only a comment\n", True),
        ("SELECT (1\n", False),
        ("selec 1\n", False),
        ("SELECT 1;\nselec 2;\n", True),
        ("selec 2;\nSELECT 1;\n", False),
    ],
)
def test_parsed_means_that_one_statement_was(engine: LintEngine, text: str, parsed: bool) -> None:
    assert engine.lint(text, ANSI, MANY)["parsed"] is parsed


def test_least_recently_used_linters_are_dropped(engine: LintEngine) -> None:
    small = LintEngine()
    profiles = [
        Profile("ansi", rules=("LT01",), options=(("max_line_length", n),)) for n in range(33)
    ]
    for profile in profiles:
        small.prepare(profile)
        small.prepare(profiles[0])
    assert small.knows(profiles[0])
    assert not small.knows(profiles[1])
    assert small.knows(profiles[32])


def test_a_profile_that_sqlfluff_refuses_says_why() -> None:
    with pytest.raises(ProfileRefusedError):
        LintEngine().prepare(Profile("nope"))


def test_the_facts_name_version_and_parser() -> None:
    facts = engine_facts()
    assert facts["name"] == "sqlfluff"
    assert facts["version"].count(".") == 2
    assert isinstance(facts["rust"], bool)
