"""Findings of now and of an earlier lint of the same file: which are new, which are gone.

A finding is told again by its rule and the text of its line, wherever the line has moved to; by
its rule and the lines around it when its own line was changed. Each counts as often as it is
there, so a second one of a kind is new.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

_DIGEST_BYTES = 4
_BETWEEN = ":"


class Mark(NamedTuple):
    """What a finding is told again by: its code, its line's digest, that of the lines around."""

    code: str
    line: str
    around: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """For each finding of now whether it is new; the places of the earlier ones that are gone."""

    is_new: tuple[bool, ...]
    gone: tuple[int, ...]


def fingerprints(text: str, violations: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a fingerprint for each record of a text: digests of its line and the lines around.

    Blanks do not count: what was only indented anew is the same line.
    """
    lines = [" ".join(line.split()) for line in text.split("\n")]
    above, below = _neighbours(lines), _neighbours(lines[::-1])[::-1]
    known: dict[int, str] = {}

    def fingerprint(number: int) -> str:
        if number not in known:
            at = min(max(number, 1), len(lines)) - 1
            around = f"{above[at]}\n{below[at]}"
            known[number] = f"{_digest(lines[at])}{_BETWEEN}{_digest(around)}"
        return known[number]

    return [fingerprint(violation["start_line_no"]) for violation in violations]


def marks_of(record: Mapping[str, Any]) -> list[Mark]:
    """Return the marks of the findings in a result document.

    Documents of older programs have no fingerprints; their findings are told by what they say.
    """
    violations = record["violations"]
    prints = record.get("fingerprints", ())
    if len(prints) != len(violations):
        prints = [_digest(str(violation["description"])) for violation in violations]
    marks = []
    for violation, fingerprint in zip(violations, prints, strict=True):
        line, _, around = str(fingerprint).partition(_BETWEEN)
        marks.append(Mark(str(violation["code"]), line, around))
    return marks


def compare(before: Sequence[Mark], after: Sequence[Mark]) -> Comparison:
    """Return which findings of after are not among those of before, and the other way round."""
    old, new = dict(enumerate(before)), dict(enumerate(after))
    # The surest sign first: what it leaves is looked at again by the next.
    for sign in (lambda mark: mark, lambda mark: mark[:2], _by_surroundings):
        _match(old, new, sign)
    return Comparison(tuple(place in new for place in range(len(after))), tuple(sorted(old)))


def _by_surroundings(mark: Mark) -> tuple[str, ...]:
    return (mark.code, mark.around) if mark.around else mark


def _match(
    old: dict[int, Mark], new: dict[int, Mark], sign: Callable[[Mark], tuple[str, ...]]
) -> None:
    """Take out of both what is the same by a sign, one for one."""
    waiting: dict[tuple[str, ...], list[int]] = {}
    for place, mark in reversed(old.items()):
        waiting.setdefault(sign(mark), []).append(place)
    for place, mark in list(new.items()):
        if places := waiting.get(sign(mark)):
            del old[places.pop()], new[place]


def _neighbours(lines: Sequence[str]) -> list[str]:
    """Return for each line the last one before it that is not blank."""
    found, last = [], ""
    for line in lines:
        found.append(last)
        last = line or last
    return found


def _digest(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
