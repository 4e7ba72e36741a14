"""What each process of a worker is at, told through memory that they share.

A process with a group of runs has claimed all of them. When it dies only the one that it had begun
has cost an attempt, and only its main process is left to say which one that was.
"""

import mmap
import os
import struct
import uuid
from typing import Final

from billiard.process import current_process

_SLOTS: Final = 1024
_SLOT_BYTES: Final = 32
_RUN: Final = struct.Struct("=I16s")
_DEADLINE: Final = struct.Struct("=d")
_NO_DEADLINE: Final = 0.0
_LEFT: Final = -1.0


class BegunRuns:
    """A page with a slot for each process; made before the fork.

    A run's id is told, not its number in the group: what a slot still says of an earlier group
    belongs to no run of the present one.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _SLOT_BYTES * _SLOTS)
        self._slot: int | None = None

    def take_slot(self, number: int) -> None:
        """Take the slot of a process that no pool has numbered, and say that it is there."""
        self._slot = number
        _RUN.pack_into(self._page, self._place(), os.getpid(), bytes(16))
        self.set_deadline(None)

    def note(self, run_id: str) -> None:
        """Tell that this process begins the run."""
        _RUN.pack_into(self._page, self._place(), os.getpid(), uuid.UUID(run_id).bytes)

    def set_deadline(self, moment: float | None) -> None:
        """Tell when this process has to be ended, by the monotonic clock; None for never."""
        deadline = _NO_DEADLINE if moment is None else moment
        _DEADLINE.pack_into(self._page, self._place() + _RUN.size, deadline)

    def leave(self) -> None:
        """Tell that this process ends because it wants to."""
        self.set_deadline(_LEFT)

    def of(self, pid: int) -> str | None:
        """Return the run that a process has begun last, None when it has begun none."""
        place = self._find(pid)
        return (
            None if place is None else str(uuid.UUID(bytes=_RUN.unpack_from(self._page, place)[1]))
        )

    def is_over(self, pid: int, now: float) -> bool:
        """Return whether the deadline of a process is over."""
        return _NO_DEADLINE < self._deadline(pid) < now

    def has_left(self, pid: int) -> bool:
        """Return whether a process has ended because it wanted to."""
        return self._deadline(pid) == _LEFT

    def _deadline(self, pid: int) -> float:
        place = self._find(pid)
        if place is None:
            return _NO_DEADLINE
        return float(_DEADLINE.unpack_from(self._page, place + _RUN.size)[0])

    def _place(self) -> int:
        # The pool gives a dead process's index to the one that takes its place.
        slot = self._slot if self._slot is not None else getattr(current_process(), "index", 0)
        return (slot % _SLOTS) * _SLOT_BYTES

    def _find(self, pid: int) -> int | None:
        places = range(0, _SLOTS * _SLOT_BYTES, _SLOT_BYTES)
        return next(
            (place for place in places if _RUN.unpack_from(self._page, place)[0] == pid), None
        )


BEGUN: Final = BegunRuns()
