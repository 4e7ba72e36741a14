"""A lint profile: everything besides the text that decides which violations are found."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OptionValue = str | int | bool
RAW = "raw"


@dataclass(frozen=True, slots=True)
class Profile:
    """Dialect, rules and options of one lint.

    `rules` None means SQLFluff's default set. An option's key is SQLFluff's own
    in-file spelling, for example ``max_line_length`` or ``indentation:indent_unit``.
    `templating` is empty for plain SQL, else the JSON of a templater that the server's own
    settings define: its name, kind, and what SQLFluff is told about it. In a `strict` lint no
    comment of the file counts: neither ``noqa`` nor a directive.
    """

    dialect: str
    rules: tuple[str, ...] | None = None
    exclude_rules: tuple[str, ...] = ()
    options: tuple[tuple[str, OptionValue], ...] = ()
    templating: str = ""
    strict: bool = False

    @property
    def templater(self) -> str:
        """Return the templater's name in the settings, "raw" for plain SQL."""
        return str(json.loads(self.templating)["name"]) if self.templating else RAW

    def to_wire(self) -> dict[str, Any]:
        """Return the profile as JSON types; `from_wire` reads it back."""
        wire: dict[str, Any] = {
            "dialect": self.dialect,
            "rules": None if self.rules is None else list(self.rules),
            "exclude_rules": list(self.exclude_rules),
            "options": dict(self.options),
        }
        # What is not used is not told, so that it changes no digest.
        rarely = {"templating": self.templating, "strict": self.strict}
        return {**wire, **{name: value for name, value in rarely.items() if value}}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "Profile":
        """Return the profile that `to_wire` described."""
        rules = wire["rules"]
        return cls(
            dialect=wire["dialect"],
            rules=None if rules is None else tuple(rules),
            exclude_rules=tuple(wire["exclude_rules"]),
            options=tuple(sorted(wire["options"].items())),
            templating=wire.get("templating", ""),
            strict=wire.get("strict", False),
        )

    def digest(self) -> str:
        """Return 16 hexadecimal digits that are equal for equal profiles in every process."""
        text = json.dumps(self.to_wire(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
