"""Signals that end something, kept out of the machinery of the event loop.

The handlers of a pool's child and of beat raise: SystemExit when the process shall end, another
exception when an attempt's soft time limit is over. Raised in Python that a driver's compiled code
has called, it leaves the driver in a state in which it reads past its buffers: asyncpg then ends
the process with a segmentation fault (one in a few hundred signals). So a signal that comes while
the loop is at work for somebody else waits for the loop's next turn; code of an author that does
not await is interrupted on the spot, as outside of a loop.
"""

import asyncio
import signal
from asyncio import Handle
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from app.tasks.loops import Interruption

_NUMBERS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
_RAISING: Final = ("billiard.", "celery.apps.beat")
# The loop, and what calls compiled code that calls back.
_MACHINERY: Final = frozenset({"asyncio", "asyncpg", "sqlalchemy", "aiomysql", "redis"})


class CarefulHandler:
    """A signal handler that lets the real one raise where that does no harm."""

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self._handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._handler(number, frame)
            return
        if asyncio.current_task(loop) is not None and _is_plain_code(frame):
            self._handler(number, frame)
        else:
            loop.call_soon_threadsafe(self._interrupt, number)

    def _interrupt(self, number: int) -> None:
        try:
            self._handler(number, None)
        except BaseException as error:  # noqa: BLE001 - it is raised again, in another form
            raise Interruption(error) from None


def handle_with_care() -> None:
    """Put the raising handlers of this process behind careful ones, once; called often, because
    a pool sets them late.
    """
    for number in _NUMBERS:
        handler = signal.getsignal(number)
        if callable(handler) and getattr(handler, "__module__", "").startswith(_RAISING):
            signal.signal(number, CarefulHandler(handler))


def _is_plain_code(frame: FrameType | None) -> bool:
    """Return whether the loop runs this code as a step of a task, through nothing of its own."""
    while frame is not None:
        if frame.f_code is Handle._run.__code__:  # noqa: SLF001 - where the loop's own code ends
            return True
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _MACHINERY:
            return False
        frame = frame.f_back
    # A greenlet's frames end before the loop's: SQLAlchemy is at work.
    return False
