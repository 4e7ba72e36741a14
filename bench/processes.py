"""What the processes of a worker use, read from /proc."""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_SECONDS = 0.5
# A tree in which processes end all the time is taken as it is after so many looks.
_TRIES = 10
# A pid and the moment of its start: pids are used again.
_Key = tuple[int, str]


@dataclass(frozen=True)
class Used:
    """Memory of one process in MB: `own` is what would be free without it."""

    role: str
    pid: int
    own_mb: float


@dataclass(frozen=True)
class Memory:
    """Memory of one process in MB: `resident` counts what it shares with others in full, `own` is
    what would be free without it.
    """

    resident_mb: float
    own_mb: float


def tree(pid: int) -> list[int]:
    """Return the process and all below it, parents before their children."""
    return [pid, *_below(pid, _parents())]


def memory_of(pid: int) -> Memory:
    """Return the memory of one process, all zero when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return Memory(0.0, 0.0)
    sizes = {name: int(size) / 1024 for name, size, _ in map(str.split, lines)}
    own = sum(size for name, size in sizes.items() if name.startswith("Private_"))
    return Memory(sizes["Rss:"], own)


def own_mb(pid: int) -> float:
    """Return the own memory of the process and all below it."""
    return sum(memory_of(one).own_mb for one in tree(pid))


def worker_memory() -> list[Used]:
    """Return the memory of every worker process below this one, with its role."""
    return [Used(role, pid, memory_of(pid).own_mb) for pid, role in _roles().items()]


@dataclass(frozen=True)
class _Ticks:
    """Processor time of one process, and of those below it that have ended and were waited for."""

    own: int = 0
    waited: int = 0


class Spent:
    """Processor time, since this was made, of a process and of all that were ever seen below it.

    A process that ends adds its time to its parent's, but only if that waits for it. When it does
    not, or is gone itself, what the process had used at the last look before its end still counts.
    """

    def __init__(self, root: int | None = None) -> None:
        """Begin to count for all below this process, or for another one and all below it."""
        pid = root or os.getpid()
        self._lock = threading.Lock()
        self._ticks = 0
        self._seen = _look_at([_key(pid, stat)] if (stat := _stat(pid)) else [])

    @property
    def seconds(self) -> float:
        """Look, and return the time so far; it never becomes less."""
        with self._lock:
            self._look()
            return self._ticks / _TICKS

    def _look(self) -> None:
        before, now = self._seen, _look_at(self._seen)
        grown = [(ticks, before.get(key, _Ticks())) for key, ticks in now.items()]
        own = sum(ticks.own - old.own for ticks, old in grown)
        waited = sum(ticks.waited - old.waited for ticks, old in grown)
        # Counted already, when it was their own.
        known = sum(before[key].own + before[key].waited for key in before.keys() - now.keys())
        self._ticks += own + max(0, waited - known)
        self._seen = now


@contextlib.contextmanager
def spending(root: int | None = None) -> Iterator[Spent]:
    """Count the processor time during the block, with a look every half second."""
    spent, over = Spent(root), threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_SECONDS):
            _ = spent.seconds

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield spent
    finally:
        over.set()
        thread.join()


def _roles() -> dict[int, str]:
    parents = _parents()
    roles: dict[int, str] = {}
    for pid in _below(os.getpid(), parents):
        command, above = _command(pid), roles.get(parents[pid])
        if "sandbox_zygote" in command:
            roles[pid] = "lint child" if above == "zygote" else "zygote"
        elif "taskyard worker" in command:
            roles[pid] = "worker child" if above == "worker" else "worker"
    return roles


def _look_at(known: Iterable[_Key]) -> dict[_Key, _Ticks]:
    """Return the times of the known processes that live and of all below them.

    Read anew when one of them is gone afterwards: nobody knows whether its parent was read before
    it had waited for it.
    """
    found: dict[_Key, _Ticks] = {}
    for _ in range(_TRIES):
        living = _living(known)
        parents = _parents()
        pids = {below for pid, _ in living for below in (pid, *_below(pid, parents))}
        stats = [(pid, stat) for pid in pids if (stat := _stat(pid))]
        found = {_key(pid, stat): _ticks_of(pid, stat) for pid, stat in stats}
        if living | found.keys() == _living([*living, *found]):
            break
    return found


def _ticks_of(pid: int, stat: list[str]) -> _Ticks:
    user, system, waited_user, waited_system = map(int, stat[11:15])
    # Who measures does not count, only those that it started.
    own = 0 if pid == os.getpid() else user + system
    return _Ticks(own, waited_user + waited_system)


def _living(keys: Iterable[_Key]) -> set[_Key]:
    return {key for key in keys if (stat := _stat(key[0])) and _key(key[0], stat) == key}


def _key(pid: int, stat: list[str]) -> _Key:
    return pid, stat[19]


def _parents() -> dict[int, int]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {pid: int(stat[1]) for pid in pids if (stat := _stat(pid))}


def _stat(pid: int) -> list[str]:
    """Return the fields behind the name of the process, none when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _below(root: int, parents: dict[int, int]) -> list[int]:
    """Return the descendants of a process, parents before their children."""
    found, layer = [], [root]
    while layer:
        layer = [pid for pid, parent in parents.items() if parent in layer]
        found += layer
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
