"""When a failed attempt is followed by another, and after how long."""

import random
from dataclasses import dataclass


class Retry(Exception):
    """Raise inside a task to end this attempt and try again after `after` seconds (default: the
    backoff).
    """

    def __init__(
        self, message: str = "The task asked for another attempt.", *, after: float | None = None
    ) -> None:
        super().__init__(message)
        self.after = after


class Fatal(Exception):
    """Raise inside a task when another attempt cannot help: the run fails at once."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with jitter; times in seconds, `jitter` is the part that is random."""

    seconds: float = 1.0
    max_seconds: float = 300.0
    jitter: float = 0.25

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after the given attempt (the first is 1) failed."""
        full = min(self.max_seconds, self.seconds * 2.0 ** min(attempt - 1, 60))
        return full * (1 - self.jitter * random.random())  # noqa: S311 - spreads load, guards nothing
