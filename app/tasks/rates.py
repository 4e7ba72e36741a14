"""Rates as authors write them: "100/m"."""

import re
from dataclasses import dataclass

_RATE = re.compile(r"([1-9]\d{0,5})/([smh])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """So many starts in a period."""

    count: int
    period_seconds: float

    @property
    def interval_seconds(self) -> float:
        """The time from one start to the next at an even pace."""
        return self.period_seconds / self.count


def is_rate(text: str) -> bool:
    """Return whether the text is a rate: a whole number, a slash, and s, m or h."""
    return _RATE.fullmatch(text) is not None


def read_rate(text: str) -> Rate:
    """Return the rate of a text; ValueError for what `is_rate` does not take."""
    match = _RATE.fullmatch(text)
    if match is None:
        message = f"{text!r} is not a rate like '100/m'"
        raise ValueError(message)
    return Rate(int(match[1]), _SECONDS[match[2]])
