"""What findings weigh: a severity for each rule, and the one at which a lint has not passed."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from app.plugins.lint.catalogue import codes_by_selector
from app.plugins.lint.wording import SYNTAX_CODES


class Severity(StrEnum):
    """How bad a finding is, the worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class FailOn(StrEnum):
    """What makes a lint not pass, and all that is worse."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    NEVER = "never"


# Beside the severities: the rule is not applied at all.
OFF = "off"
# What follows the code of a finding that SQLFluff itself only warns of.
_ONLY_WARNED = "?"


class Counts(NamedTuple):
    """Numbers of findings by severity."""

    error: int = 0
    warning: int = 0
    note: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """Severities by rule code; a rule that is not named is a warning.

    Syntax errors, and files without a result, are errors whatever the policy says.
    """

    severities: tuple[tuple[str, Severity], ...] = ()
    fail_on: FailOn = FailOn.WARNING

    def severity(self, code: str, *, only_warned: bool = False) -> Severity:
        """Return the severity of a finding of a rule."""
        if code in SYNTAX_CODES:
            return Severity.ERROR
        if only_warned:
            return Severity.NOTE
        return _by_code(self.severities).get(code, Severity.WARNING)

    def count(self, tally: Mapping[str, int]) -> Counts:
        """Return the numbers by severity of what `tally_of` counted."""
        counted: Counter[str] = Counter()
        for key, found in tally.items():
            code = key.removesuffix(_ONLY_WARNED)
            counted[self.severity(code, only_warned=code != key)] += found
        return Counts(*(counted[severity] for severity in Severity))

    def passes(self, counts: Counts) -> bool:
        """Return whether there is nothing as bad as `fail_on` or worse."""
        if self.fail_on is FailOn.NEVER:
            return True
        bad = list(FailOn).index(self.fail_on) + 1
        return not any(counts[:bad])

    def to_json(self) -> dict[str, Any]:
        """Return the policy as JSON types; `from_json` reads it back."""
        return {"severities": dict(self.severities), "fail_on": self.fail_on.value}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Policy":
        """Return the policy that `to_json` described; what is missing is as in the default."""
        severities = sorted(told.get("severities", {}).items())
        return cls(
            tuple((code, Severity(severity)) for code, severity in severities),
            FailOn(told.get("fail_on", FailOn.WARNING)),
        )


@lru_cache(maxsize=32)
def _by_code(severities: tuple[tuple[str, Severity], ...]) -> dict[str, Severity]:
    return dict(severities)


def tally_of(violations: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many of SQLFluff's records there are of each code."""
    return dict(Counter(key_of(violation) for violation in violations))


def key_of(violation: Mapping[str, Any]) -> str:
    """Return what a record is counted under."""
    code = str(violation["code"])
    return f"{code}{_ONLY_WARNED}" if violation["warning"] else code


def expand_severities(chosen: Mapping[str, str]) -> dict[str, str]:
    """Return the severity, or OFF, of each code that the selectors select.

    Of two that select the same rule the narrower one counts: a code more than its group, a group
    more than ``all``.
    """
    selected = codes_by_selector()
    widest_first = sorted(chosen.items(), key=lambda item: (-len(selected[item[0]]), item[0]))
    return {code: severity for selector, severity in widest_first for code in selected[selector]}
