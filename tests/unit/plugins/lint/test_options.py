"""What a request or a stored profile says becomes the options of a job, and comes back from it."""

from typing import Any

import pytest

from app.plugins.lint.errors import LintFieldInvalid
from app.plugins.lint.models import LintingJob
from app.plugins.lint.options import LintOptions, Wish, check_wish, options_of, resolve
from app.plugins.lint.policies import FailOn, Policy, Severity
from app.plugins.lint.profiles import Profile
from app.plugins.lint.settings import LintSettings

SETTINGS = LintSettings.model_validate(
    {"default_dialect": "mysql", "templaters": {"dbt": {"kind": "jinja"}}}
)


def test_an_empty_wish_is_the_default() -> None:
    options = resolve(check_wish(Wish(), SETTINGS), SETTINGS)
    assert options == LintOptions(profile=Profile("mysql"))
    assert options.to_columns() == {
        "dialect": "mysql",
        "rules": None,
        "exclude_rules": None,
        "profile_name": None,
        "options": None,
    }


def test_names_are_spelled_as_sqlfluff_spells_them() -> None:
    wish = Wish(
        dialect="TSQL",
        rules=("lt01", "LT01", "Layout.Indent"),
        exclude_rules=("cp01",),
        severities={"Core": "note", "rf01": "error"},
    )
    good = check_wish(wish, SETTINGS)
    assert (good.dialect, good.rules) == ("tsql", ("LT01", "layout.indent"))
    assert good.exclude_rules == ("CP01",)
    assert good.severities == {"core": "note", "RF01": "error"}


def test_every_fault_is_told_with_its_place() -> None:
    wish = Wish(
        dialect="sqlx",
        rules=("LT01", "XX01"),
        options={"max_line_length": "long", "nope": 1, "indentation:indent_unit": "tab"},
        severities={"YY01": "note"},
        templater="liquid",
    )
    with pytest.raises(LintFieldInvalid) as caught:
        check_wish(wish, SETTINGS)
    assert [(error.loc, error.type) for error in caught.value.errors or []] == [
        (("body", "dialect"), "unknown_dialect"),
        (("body", "rules", 1), "unknown_rule"),
        (("body", "options", "max_line_length"), "value_error"),
        (("body", "options", "nope"), "unknown_option"),
        (("body", "severities", "YY01"), "unknown_rule"),
        (("body", "templater"), "unknown_templater"),
    ]


def test_what_the_request_says_counts_more_than_the_profile() -> None:
    stored = Wish(dialect="postgres", rules=("core",), fail_on="error", obey_comments=False)
    wish = Wish(rules=(), fail_on="note").over(stored)
    assert (wish.dialect, wish.rules, wish.fail_on) == ("postgres", (), "note")
    assert wish.obey_comments is False
    assert resolve(wish, SETTINGS).profile == Profile("postgres", strict=True)


def test_a_wish_comes_back_from_its_json() -> None:
    wish = Wish(rules=("LT01",), options={"max_line_length": 100}, severities={"LT01": "off"})
    assert Wish.from_json(wish.to_json()) == wish
    assert Wish.from_json({**wish.to_json(), "later": 1}) == wish


def test_a_rule_that_is_off_is_not_applied() -> None:
    wish = Wish(exclude_rules=("CP01",), severities={"LT05": "off", "LT01": "error"})
    options = resolve(wish, SETTINGS)
    assert options.profile.exclude_rules == ("CP01", "LT05")
    assert options.policy == Policy((("LT01", Severity.ERROR),))


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"templater": "dbt"},
        {"options": {"max_line_length": 100}, "obey_comments": False},
        {"severities": {"LT01": "error"}, "fail_on": "error"},
        {"fail_on": "never"},
        {"rules": ("LT01",), "exclude_rules": ("CP01",), "dialect": "ansi"},
    ],
)
def test_options_come_back_from_a_jobs_row(wish: dict[str, Any]) -> None:
    options = resolve(Wish(**wish), SETTINGS, profile_name="team", profile_version=3)
    job = LintingJob(**options.to_columns())
    assert options_of(job, SETTINGS) == options


def test_a_row_of_before_there_were_profiles_is_read() -> None:
    job = LintingJob(dialect=None, rules=["LT01"], options={"templater": "gone"})
    options = options_of(job, SETTINGS)
    assert options.profile == Profile("mysql", ("LT01",))
    assert options.policy == Policy(fail_on=FailOn.WARNING)
