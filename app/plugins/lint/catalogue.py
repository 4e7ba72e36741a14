"""The dialects and rules that the pinned SQLFluff knows, without importing it.

`catalogue.json` is written by ``python -m app.plugins.lint.engine``; a test compares the
file with the installed SQLFluff, so an upgrade that changes a rule fails until it is
written again. The API process validates requests with this module.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

_FILE = Path(__file__).with_name("catalogue.json")
_NEAR = 3


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
class Catalogue:
    """Everything that a request may name, and the SQLFluff version that it was read from."""

    sqlfluff_version: str
    dialects: dict[str, str]
    rules: tuple[Rule, ...]

    @property
    def selectors(self) -> frozenset[str]:
        """Return every text that selects rules: codes, names, groups and older aliases."""
        names = {alias for rule in self.rules for alias in (*rule.groups, *rule.aliases)}
        return frozenset(names.union(*((rule.code, rule.name) for rule in self.rules)))


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
    return Catalogue(raw["sqlfluff_version"], raw["dialects"], rules)


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
