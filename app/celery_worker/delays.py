"""The delay ladder: which delays exist, and which one a wanted delay takes.

A delay queue has one TTL for all its messages, so a short delay never waits behind a
long one. That needs a fixed set of delays instead of every value that a back-off makes.
"""

import bisect
from typing import Final

LADDER_SECONDS: Final = (
    0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120,
    180, 300, 450, 600, 900, 1200, 1800, 2700, 3600,
)  # fmt: skip

# A rung above the wanted delay may be late by this much; beyond it the rung below is taken and
# the executor, which reads the due time from the row, delays the early wake-up by the remainder.
_LATE_SECONDS: Final = 0.25
_LATE_SHARE: Final = 0.02


def rung_for(delay_seconds: float) -> int:
    """Return the rung for a delay, in milliseconds; 0 for a delay that is already over.

    The rung is above the delay by at most 0.25 s or 2 %, or else it is the largest one below
    it (the first rung for a delay below all of them).
    """
    if delay_seconds <= 0:
        return 0
    position = bisect.bisect_left(LADDER_SECONDS, delay_seconds)
    if position < len(LADDER_SECONDS):
        above = LADDER_SECONDS[position]
        if above - delay_seconds <= max(_LATE_SECONDS, delay_seconds * _LATE_SHARE):
            return round(above * 1000)
    return round(LADDER_SECONDS[max(position - 1, 0)] * 1000)
