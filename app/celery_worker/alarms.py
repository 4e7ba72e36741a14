"""Time limits of a process that runs its tasks itself, under a supervisor.

The soft limit is an alarm, which raises what a pool's soft limit raises. The hard limit is told to
the supervisor, who ends the process: nothing in it can be relied on by then.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from billiard.exceptions import SoftTimeLimitExceeded

from app.celery_worker.begun import BEGUN
from app.celery_worker.interrupts import CarefulHandler
from app.celery_worker.messages import HARD_LIMIT_GRACE_SECONDS


def handle_alarms() -> None:
    """Have alarms raise in the main thread of this process, where that does no harm."""
    signal.signal(signal.SIGALRM, CarefulHandler(_raise_limit))


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Raise SoftTimeLimitExceeded in what takes longer; without a number it may take for ever."""
    if seconds is None:
        yield
        return
    BEGUN.set_deadline(time.monotonic() + seconds + HARD_LIMIT_GRACE_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        BEGUN.set_deadline(None)


def _raise_limit(_number: int, _frame: FrameType | None) -> None:
    raise SoftTimeLimitExceeded
