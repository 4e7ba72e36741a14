"""Counts that worker processes keep in shared memory, and the gate in front of their tasks.

Every side of a comparison calls `tick` or `stamp` in its task, so it costs all the same: about a
microsecond. A worker whose first task waits at the gate has started up and holds its first
messages; the clock starts when the gate opens.
"""

import itertools
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FOLDER: Final = "BENCH_TALLY"
_GATE: Final = "gate"
_WORD: Final = struct.Struct("q")
_own = threading.local()
_numbers = itertools.count()


def tick() -> None:
    """Count one task of this thread, behind the gate."""
    slot = _slot()
    while not slot.gate[0]:
        time.sleep(0.001)
    slot.count += 1
    _WORD.pack_into(slot.memory, 0, slot.count)


def stamp(sent_ns: int) -> None:
    """Count one task and keep how long after `sent_ns` of the monotonic clock it has started."""
    started_ns = time.monotonic_ns()
    slot = _slot()
    os.write(slot.stamps, _WORD.pack(started_ns - sent_ns))
    slot.count += 1
    _WORD.pack_into(slot.memory, 0, slot.count)


class _Slot:
    """The memory of one thread of one process."""

    def __init__(self, folder: Path) -> None:
        self.pid = os.getpid()
        self.count = 0
        # Not the thread's identifier: those are used again.
        name = f"{self.pid}-{next(_numbers)}"
        self.memory = _map(folder / f"{name}.count")
        self.gate = _map(folder / _GATE)
        self.stamps = os.open(folder / f"{name}.stamps", os.O_CREAT | os.O_APPEND | os.O_WRONLY)


def _slot() -> _Slot:
    slot: _Slot | None = getattr(_own, "slot", None)
    if slot is None or slot.pid != os.getpid():
        slot = _own.slot = _Slot(Path(os.environ[FOLDER]))
    return slot


def _map(path: Path) -> mmap.mmap:
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.ftruncate(file, _WORD.size)
        return mmap.mmap(file, _WORD.size)
    finally:
        os.close(file)


class Tally:
    """The other end: what the processes that share a folder have counted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._gate = _map(folder / _GATE)

    def open_gate(self) -> None:
        """Let every task go on that waits at the gate or will come to it."""
        self._gate[0] = 1

    def processes(self) -> int:
        """Return how many processes have started a task."""
        return len({path.name.partition("-")[0] for path in self.folder.glob("*.count")})

    def count(self) -> int:
        """Return how many tasks have been counted by all of them."""
        return sum(self._words("*.count"))

    def delays_ms(self) -> list[float]:
        """Return the milliseconds from sending to starting of every stamped task."""
        return [word / 1e6 for word in self._words("*.stamps")]

    def forget_stamps(self) -> None:
        """Leave what has been stamped so far out of the delays."""
        for path in self.folder.glob("*.stamps"):
            os.truncate(path, 0)

    def _words(self, pattern: str) -> Iterator[int]:
        for path in self.folder.glob(pattern):
            content = path.read_bytes()
            yield from (word for (word,) in _WORD.iter_unpack(content))
