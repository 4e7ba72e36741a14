"""In-file directives (``-- sqlfluff:key:value``), read by us and hidden from SQLFluff.

A directive can load Python files, read any file and lift every limit, so SQLFluff never
sees one. The keys in `_OPTIONS` and the choice of dialect and rules are harmless: they
are applied to the profile. Every other key is reported as a notice and has no effect.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from app.plugins.lint.catalogue import UnknownNameError, check_dialect, check_rules
from app.plugins.lint.profiles import OptionValue, Profile

_WORD = "sqlfluff"
_MARKS = (f"-- {_WORD}", f"--{_WORD}")
# Words of the same length that SQLFluff does not take for its name.
_DISGUISES = tuple(f"sqlfluf{letter}" for letter in "-_~+.=|^")
_SHOWN = 80
_MAX_NOTICES = 20
Parser = Callable[[str], OptionValue]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about a file that is no violation: a code, words, and the line if one is meant."""

    code: str
    message: str
    line: int | None = None

    def to_json(self) -> dict[str, str | int]:
        """Return the notice as it stands in a result document."""
        shown: dict[str, str | int] = {"code": self.code, "message": self.message}
        if self.line is not None:
            shown["line"] = self.line
        return shown


@dataclass(slots=True)
class _Reading:
    dialect: str
    rules: tuple[str, ...] | None
    exclude_rules: tuple[str, ...]
    options: dict[str, OptionValue]
    strict: bool = False
    notices: list[Notice] = field(default_factory=list)


def _whole_number(low: int, high: int) -> Parser:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 9 and low <= int(text) <= high):
            message = f"must be a whole number from {low} to {high}"
            raise ValueError(message)
        return int(text)

    return parse


def _one_of(*choices: str) -> Parser:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            message = f"must be one of {', '.join(choices)}"
            raise ValueError(message)
        return text.lower()

    return parse


_CASES = ("consistent", "upper", "lower", "capitalise")
_MORE_CASES = (*_CASES, "pascal", "snake", "camel")
_OPTIONS: Mapping[str, Parser] = {
    "max_line_length": _whole_number(0, 10_000),
    "indentation:indent_unit": _one_of("space", "tab"),
    "indentation:tab_space_size": _whole_number(1, 16),
    "rules:capitalisation.keywords:capitalisation_policy": _one_of(*_CASES),
    "rules:capitalisation.literals:capitalisation_policy": _one_of(*_CASES),
    "rules:capitalisation.functions:extended_capitalisation_policy": _one_of(*_MORE_CASES),
    "rules:capitalisation.identifiers:extended_capitalisation_policy": _one_of(*_MORE_CASES),
    "rules:capitalisation.types:extended_capitalisation_policy": _one_of(*_MORE_CASES),
}


def read_directives(text: str, profile: Profile) -> tuple[str, Profile, list[Notice]]:
    """Return the text without directives, the profile that they lead to, and notices.

    Lines keep their number and length: a directive's comment stays, with its mark spelled
    so that SQLFluff does not take it for one.
    """
    if "--" not in text or _WORD not in text:
        return text, profile, []
    reading = _Reading(
        profile.dialect,
        profile.rules,
        profile.exclude_rules,
        dict(profile.options),
        strict=profile.strict,
    )
    # The same function that SQLFluff splits with: it knows more line ends than "\n".
    lines = text.splitlines(keepends=True)
    disguise = _disguise(text) or _DISGUISES[0]
    for number, line in _directives(lines):
        lines[number] = line.replace(_WORD, disguise, 1)
        _apply(line, number + 1, reading)
    read = replace(
        profile,
        dialect=reading.dialect,
        rules=reading.rules,
        exclude_rules=reading.exclude_rules,
        options=tuple(sorted(reading.options.items())),
    )
    return "".join(lines), read, _limited(reading.notices)


def restore_directives(changed: str, original: str) -> str | None:
    """Return a text that was made of a hidden one with its directives as they were in the original.

    None when the original holds every word that could have stood in their place.
    """
    disguise = _disguise(original)
    return None if disguise is None else changed.replace(disguise, _WORD)


def _disguise(text: str) -> str | None:
    return next((word for word in _DISGUISES if word not in text), None)


def _directives(lines: list[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines):
        if line.startswith(_MARKS):
            yield number, line


def _apply(line: str, number: int, reading: _Reading) -> None:
    body = line[2:].strip().removeprefix(_WORD).strip()
    if not body.startswith(":"):
        return  # An ordinary comment that begins with the word.
    body = body[1:].strip()
    key, _, value = body.rpartition(":")
    key = ":".join(part.strip() for part in key.split(":"))
    value = value.strip()
    shown = key[:_SHOWN] or body[:_SHOWN]
    try:
        known = _set(key, value, reading)
    except (ValueError, UnknownNameError) as error:
        message = f"The directive '{shown}' was ignored: {error}"
        reading.notices.append(Notice("DIRECTIVE_IGNORED", message, number))
        return
    if known:
        message = f"The directive '{shown}' was applied."
        reading.notices.append(Notice("DIRECTIVE_APPLIED", message, number))
    else:
        message = f"The directive '{shown}' was ignored: a file may not set it here."
        reading.notices.append(Notice("DIRECTIVE_IGNORED", message, number))


def _set(key: str, value: str, reading: _Reading) -> bool:
    if reading.strict:
        message = "the profile obeys no comments"
        raise ValueError(message)
    if key == "dialect":
        reading.dialect = check_dialect(value)
    elif key == "rules":
        reading.rules = check_rules(_split(value)) or None
    elif key == "exclude_rules":
        reading.exclude_rules = check_rules((*reading.exclude_rules, *_split(value)))
    elif key in _OPTIONS:
        reading.options[key] = _OPTIONS[key](value)
    else:
        return False
    return True


def _split(value: str) -> list[str]:
    return [name for name in (part.strip() for part in value.split(",")) if name]


def _limited(notices: list[Notice]) -> list[Notice]:
    if len(notices) <= _MAX_NOTICES:
        return notices
    more = len(notices) - _MAX_NOTICES
    message = f"{more} more directives are not listed here."
    return [*notices[:_MAX_NOTICES], Notice("DIRECTIVES_NOT_LISTED", message)]
