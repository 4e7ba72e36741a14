"""The circuit breaker: after one failure nobody waits for the store until a probe succeeds."""

import random
import threading
import time
from collections.abc import Callable

from app.common.logging import get_logger
from app.redis.port import BreakerState

_log = get_logger(__name__)


class Breaker:
    """Closed, open for a pause, then probing: one caller at a time tries the store.

    The pause doubles while the store fails again soon after it came back, so a
    flapping network costs less and less. One breaker serves all loops and
    threads of a process.
    """

    def __init__(
        self,
        *,
        first_pause_seconds: float = 1.0,
        longest_pause_seconds: float = 15.0,
        calm_after_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first_pause = first_pause_seconds
        self._longest_pause = longest_pause_seconds
        self._calm_after = calm_after_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._state: BreakerState = "closed"
        self._pause = 0.0
        self._until = 0.0
        self._closed_at = float("-inf")

    @property
    def state(self) -> BreakerState:
        """Return the state; "probing" while one caller tries the store."""
        return self._state

    @property
    def is_closed(self) -> bool:
        """Return whether calls may go to the store."""
        return self._state == "closed"

    def take_probe(self) -> bool:
        """Return True to one caller once the pause is over; that caller must report an outcome.

        A probe whose loop stopped running never reports: after another pause the
        next caller may try.
        """
        with self._lock:
            if self._state == "closed" or self._clock() < self._until:
                return False
            self._state = "probing"
            self._until = self._clock() + self._pause
            return True

    def failed(self, error: BaseException) -> None:
        """Open, or stay open for a longer pause after a failed probe."""
        with self._lock:
            if self._state == "open":
                # A call that was under way when the store failed says nothing new.
                return
            was_closed = self._state == "closed"
            self._pause = self._next_pause(was_closed=was_closed)
            # Processes that lost the store together shall not all probe it together.
            self._until = self._clock() + self._pause * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
            self._state = "open"
        if was_closed:
            _log.warning("cache.store_lost", error=str(error), pause_seconds=self._pause)

    def succeeded(self) -> None:
        """Close."""
        with self._lock:
            was_closed = self._state == "closed"
            if not was_closed:
                self._state = "closed"
                self._closed_at = self._clock()
        if not was_closed:
            _log.info("cache.store_back")

    def _next_pause(self, *, was_closed: bool) -> float:
        if was_closed and self._clock() - self._closed_at > self._calm_after:
            return self._first_pause
        return min(max(self._pause * 2, self._first_pause), self._longest_pause)
