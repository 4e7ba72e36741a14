"""What a handful of rounds says: minimum, median and maximum, and percentiles of many values."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The least, the middle and the greatest of the rounds."""

    least: float
    median: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Return the spread; ValueError without any value."""
    if not values:
        raise ValueError("no round, no spread")
    return Spread(min(values), statistics.median(values), max(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least so many percent of the values do not exceed."""
    if not values:
        raise ValueError("no values, no percentile")
    ordered = sorted(values)
    place = math.ceil(percent / 100 * len(ordered)) - 1
    return ordered[max(0, place)]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio of each round: what was measured side by side is divided."""
    return [one / other for one, other in zip(above, below, strict=True)]
