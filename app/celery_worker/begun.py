"""Which run each process of a worker has begun, told through memory that they share.

A process with a group of runs has claimed all of them. When it dies only the one that it had begun
has cost an attempt, and only its main process is left to say which one that was.
"""

import mmap
import os
import struct
import uuid
from typing import Final

from billiard.process import current_process

_SLOT: Final = struct.Struct("=I16s")
_SLOTS: Final = 1024


class BegunRuns:
    """A page with a slot for each process of the pool; made before the fork.

    A run's id is told, not its number in the group: what a slot still says of an earlier group
    belongs to no run of the present one.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _SLOT.size * _SLOTS)

    def note(self, run_id: str) -> None:
        """Tell that this process begins the run."""
        # The pool gives a dead process's index to the one that takes its place.
        slot = getattr(current_process(), "index", 0) % _SLOTS
        _SLOT.pack_into(self._page, slot * _SLOT.size, os.getpid(), uuid.UUID(run_id).bytes)

    def of(self, pid: int) -> str | None:
        """Return the run that a process has begun last, None when it has begun none."""
        for slot in range(_SLOTS):
            owner, run = _SLOT.unpack_from(self._page, slot * _SLOT.size)
            if owner == pid:
                return str(uuid.UUID(bytes=run))
        return None


BEGUN: Final = BegunRuns()
