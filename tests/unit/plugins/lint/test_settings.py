"""The plugin's settings."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from app.plugins.lint.catalogue import UnknownNameError
from app.plugins.lint.plugin import PLUGIN
from app.plugins.lint.profiles import Profile
from app.plugins.lint.settings import LintSettings


def test_the_manifest_brings_the_settings() -> None:
    assert PLUGIN.name == "lint"
    assert PLUGIN.settings_model is LintSettings


def test_the_deadline_is_the_smaller_of_growth_and_limit() -> None:
    settings = LintSettings()
    assert settings.deadline_seconds(0) == 2.0
    assert settings.deadline_seconds(10 * 1024) == 6.0
    assert settings.deadline_seconds(10**9) == 30.0


def test_limits_reach_the_sandbox() -> None:
    limits = LintSettings(
        default_dialect="MySQL", sandbox_memory_mb=512, sandbox_processes=3, max_violations=9
    ).sandbox_limits()
    assert (limits.dialect, limits.memory_bytes) == ("mysql", 512 * 2**20)
    assert (limits.processes, limits.max_violations) == (3, 9)


@pytest.mark.parametrize(
    "wrong", [{"default_dialect": "nope"}, {"no_such_key": 1}, {"deadline_max_seconds": 0}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LintSettings.model_validate(wrong)


def test_a_templater_is_what_the_settings_say() -> None:
    defined = {"dbt": {"kind": "jinja", "context": {"schema": "prod"}}}
    settings = LintSettings.model_validate({"templaters": defined})
    assert (settings.templating(None), settings.templating("raw")) == ("", "")
    profile = Profile("ansi", templating=settings.templating("dbt"))
    assert profile.templater == "dbt"
    assert json.loads(profile.templating) == {"name": "dbt", **defined["dbt"]}
    assert Profile.from_wire(profile.to_wire()) == profile
    assert profile.digest() != Profile("ansi").digest()
    with pytest.raises(UnknownNameError, match="dbt"):
        settings.templating("dbtt")


@pytest.mark.parametrize(
    "templater",
    [
        {"kind": "python"},
        {"kind": "jinja", "library_path": "/tmp"},
        {"kind": "jinja", "param_style": "colon"},
        {"kind": "placeholder"},
        {"kind": "placeholder", "param_style": "colon", "context": {"param_regex:": "(a+)+"}},
    ],
)
def test_a_templater_that_could_do_more_is_refused(templater: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LintSettings.model_validate({"templaters": {"mine": templater}})
