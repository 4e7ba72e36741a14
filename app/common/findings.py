"""What a check of an installation has found; `taskyard doctor` prints it."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at: what it is, why it matters, and the command that mends it.

    `unavailable` tells that a service did not answer, so that more could not be seen.
    """

    check: str
    level: Level
    what: str
    why: str = ""
    fix: str = ""
    unavailable: bool = False


def good(check: str, what: str) -> Finding:
    """Return a finding that needs nobody."""
    return Finding(check=check, level="ok", what=what)


def is_older(version: str, minimum: tuple[int, ...]) -> bool:
    """Return whether a dotted version is below the minimum; a suffix does not count."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers) < minimum
