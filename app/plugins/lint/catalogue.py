"""The dialects, rules and options that the pinned SQLFluff knows, without importing it.

`catalogue.json` is written by ``python -m app.plugins.lint.catalogue_source``; a test compares the
file with the installed SQLFluff, so an upgrade that changes a rule fails until it is
written again. The API process validates requests with this module.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from app.plugins.lint.profiles import OptionValue

_FILE = Path(__file__).with_name("catalogue.json")
_NEAR = 3
_MAX_OPTION = 1000


class UnknownNameError(ValueError):
    """A dialect or rule that SQLFluff does not know; `near` holds names that look alike."""

    def __init__(self, kind: str, name: str, near: list[str]) -> None:
        self.kind, self.name, self.near = kind, name, near
        hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        super().__init__(f"Unknown {kind} {name[:64]!r}.{hint}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One lint rule; `groups` are the names under which several rules can be selected."""

    code: str
    name: str
    description: str
    groups: tuple[str, ...]
    aliases: tuple[str, ...]
    fixable: bool


@dataclass(frozen=True, slots=True)
class RuleOption:
    """One option, of a rule (by its code) or of the layout; `key` is SQLFluff's own spelling.

    A value is one of `choices`, a whole number from `minimum` to `maximum`, or else a text.
    """

    key: str
    rule: str | None
    description: str
    default: OptionValue | None
    choices: tuple[OptionValue, ...] = ()
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that a request may name, and the SQLFluff version that it was read from."""

    sqlfluff_version: str
    dialects: dict[str, str]
    rules: tuple[Rule, ...]
    options: dict[str, RuleOption]

    @property
    def selectors(self) -> frozenset[str]:
        """Return every text that selects rules: codes, names, groups and older aliases."""
        return frozenset(codes_by_selector())


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """Return the catalogue that ships with the plugin."""
    raw = json.loads(_FILE.read_text(encoding="utf-8"))
    rules = tuple(
        Rule(
            code=rule["code"],
            name=rule["name"],
            description=rule["description"],
            groups=tuple(rule["groups"]),
            aliases=tuple(rule["aliases"]),
            fixable=rule["fixable"],
        )
        for rule in raw["rules"]
    )
    options = {
        option["key"]: RuleOption(**{**option, "choices": tuple(option.get("choices", ()))})
        for option in raw["options"]
    }
    return Catalogue(raw["sqlfluff_version"], raw["dialects"], rules, options)


@lru_cache(maxsize=1)
def codes_by_selector() -> dict[str, frozenset[str]]:
    """Return the codes of the rules that each text selects, as `Catalogue.selectors` has them."""
    selected: dict[str, set[str]] = {}
    for rule in catalogue().rules:
        for selector in (rule.code, rule.name, *rule.groups, *rule.aliases):
            selected.setdefault(selector, set()).add(rule.code)
    return {selector: frozenset(codes) for selector, codes in selected.items()}


@lru_cache(maxsize=1)
def _folded_selectors() -> dict[str, str]:
    return {selector.lower(): selector for selector in catalogue().selectors}


def check_dialect(name: str) -> str:
    """Return SQLFluff's label of the dialect; UnknownNameError lists near labels."""
    label = name.strip().lower()
    known = catalogue().dialects
    if label not in known:
        raise UnknownNameError("dialect", name, get_close_matches(label, known, _NEAR, 0.5))
    return label


def check_rule(name: str) -> str:
    """Return SQLFluff's spelling of a rule code, name, group or alias.

    Upper and lower case do not matter. UnknownNameError lists near spellings.
    """
    folded = _folded_selectors()
    key = name.strip().lower()
    if key not in folded:
        near = get_close_matches(key, folded, _NEAR, 0.5)
        raise UnknownNameError("rule", name, [folded[n] for n in near])
    return folded[key]


def check_rules(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names as `check_rule` spells them, each once, in a stable order."""
    return tuple(sorted({check_rule(name) for name in names}))


def check_option(key: str, value: object) -> OptionValue:
    """Return an option's value; UnknownNameError for the key, ValueError for the value."""
    option = catalogue().options.get(key)
    if option is None:
        known = catalogue().options
        raise UnknownNameError("option", key, get_close_matches(key, known, _NEAR, 0.5))
    if option.choices:
        # True is equal to 1, and no choice is a number.
        if isinstance(value, str | bool) and value in option.choices:
            return value
        told = ", ".join(json.dumps(choice) for choice in option.choices)
        raise ValueError(f"must be one of {told}")
    if option.maximum is not None:
        low, high = option.minimum or 0, option.maximum
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise ValueError(f"must be a whole number from {low} to {high}")
    if isinstance(value, str) and 0 < len(value) <= _MAX_OPTION and value.isprintable():
        return value
    raise ValueError(f"must be a text of at most {_MAX_OPTION} printable characters")
