"""How SQL is to be linted: what a request or a stored profile says, checked, and what follows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

from sqlalchemy.engine import Row

from app.common.errors import FieldError
from app.plugins.lint.catalogue import (
    UnknownNameError,
    check_dialect,
    check_option,
    check_rule,
)
from app.plugins.lint.errors import LintFieldInvalid
from app.plugins.lint.models import LintingJob
from app.plugins.lint.policies import OFF, FailOn, Policy, Severity, expand_severities
from app.plugins.lint.profiles import OptionValue, Profile
from app.plugins.lint.settings import LintSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a request or a stored profile says; None where it says nothing.

    `severities` are by rule selector, `obey_comments` tells whether ``noqa`` and directives in a
    file count.
    """

    dialect: str | None = None
    rules: tuple[str, ...] | None = None
    exclude_rules: tuple[str, ...] | None = None
    options: Mapping[str, OptionValue] | None = None
    severities: Mapping[str, str] | None = None
    fail_on: str | None = None
    obey_comments: bool | None = None
    templater: str | None = None

    def over(self, other: "Wish") -> "Wish":
        """Return this wish with what the other one says where this one says nothing."""
        said = {name: value for name, value in self.to_json().items() if value is not None}
        return replace(other, **said)

    def to_json(self) -> dict[str, Any]:
        """Return the wish as JSON types; `from_json` reads it back."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Wish":
        """Return the wish that `to_json` described; a field of a newer program is passed over."""
        known: dict[str, Any] = {each.name: told.get(each.name) for each in fields(cls)}
        for name in ("rules", "exclude_rules"):
            known[name] = None if known[name] is None else tuple(known[name])
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class LintOptions:
    """How the files of one job are linted and judged; `profile_name` is a stored profile's."""

    profile: Profile
    policy: Policy = field(default_factory=Policy)
    templater: str | None = None
    profile_name: str | None = None
    profile_version: int | None = None

    def to_columns(self) -> dict[str, Any]:
        """Return the columns of a job; `options_of` reads them back."""
        rarely = {
            "templater": self.templater,
            "options": dict(self.profile.options),
            "strict": self.profile.strict,
            "severities": dict(self.policy.severities),
            "fail_on": None if self.policy == Policy() else self.policy.fail_on.value,
            "profile_version": self.profile_version,
        }
        return {
            "dialect": self.profile.dialect,
            "rules": list(self.profile.rules or ()) or None,
            "exclude_rules": list(self.profile.exclude_rules) or None,
            "profile_name": self.profile_name,
            "options": {name: value for name, value in rarely.items() if value} or None,
        }


def options_of(job: LintingJob | Row[Any], settings: LintSettings) -> LintOptions:
    """Return the options that a job, or a row with these columns, was submitted with.

    A templater that the settings have lost since then is as good as none.
    """
    told = job.options or {}
    templater = told.get("templater")
    known = templater if templater in settings.templaters else None
    profile = Profile(
        dialect=job.dialect or settings.default_dialect,
        rules=tuple(job.rules) if job.rules else None,
        exclude_rules=tuple(job.exclude_rules or ()),
        options=tuple(sorted(told.get("options", {}).items())),
        templating=settings.templating(known),
        strict=told.get("strict", False),
    )
    return LintOptions(
        profile=profile,
        policy=Policy.from_json(told),
        templater=templater,
        profile_name=job.profile_name,
        profile_version=told.get("profile_version"),
    )


def check_wish(wish: Wish, settings: LintSettings) -> Wish:
    """Return the wish with every name as SQLFluff spells it; LintFieldInvalid lists all faults."""
    faults: list[FieldError] = []

    def checked(loc: tuple[str | int, ...], check: Callable[[Any], Any], value: Any) -> Any:
        try:
            return check(value)
        except UnknownNameError as error:
            faults.append(FieldError(("body", *loc), str(error), f"unknown_{error.kind}"))
        except ValueError as error:
            faults.append(FieldError(("body", *loc), str(error), "value_error"))
        return value

    def rules(name: str, chosen: Iterable[str] | None) -> tuple[str, ...] | None:
        if chosen is None:
            return None
        spelled = [checked((name, place), check_rule, one) for place, one in enumerate(chosen)]
        return tuple(sorted(set(spelled)))

    def templater(name: str) -> str:
        settings.templating(name)
        return name

    good = Wish(
        dialect=wish.dialect and checked(("dialect",), check_dialect, wish.dialect),
        rules=rules("rules", wish.rules),
        exclude_rules=rules("exclude_rules", wish.exclude_rules),
        options=wish.options
        and {
            key: checked(("options", key), partial(check_option, key), value)
            for key, value in wish.options.items()
        },
        severities=wish.severities
        and {
            checked(("severities", name), check_rule, name): severity
            for name, severity in wish.severities.items()
        },
        fail_on=wish.fail_on,
        obey_comments=wish.obey_comments,
        templater=wish.templater and checked(("templater",), templater, wish.templater),
    )
    if faults:
        raise LintFieldInvalid(faults[0].msg, errors=faults)
    return good


def resolve(wish: Wish, settings: LintSettings, **stored: Any) -> LintOptions:
    """Return the options that a checked wish asks for; `stored` names the profile behind it."""
    severities = expand_severities(wish.severities or {})
    off = {code for code, severity in severities.items() if severity == OFF}
    policy = Policy(
        tuple(sorted((c, Severity(s)) for c, s in severities.items() if c not in off)),
        FailOn(wish.fail_on or FailOn.WARNING),
    )
    profile = Profile(
        dialect=wish.dialect or settings.default_dialect,
        rules=wish.rules or None,
        exclude_rules=tuple(sorted({*(wish.exclude_rules or ()), *off})),
        options=tuple(sorted((wish.options or {}).items())),
        templating=settings.templating(wish.templater),
        strict=wish.obey_comments is False,
    )
    return LintOptions(profile=profile, policy=policy, templater=wish.templater, **stored)
