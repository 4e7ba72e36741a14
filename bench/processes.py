"""What the processes of a worker use, read from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


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


def cpu_seconds(root: int | None = None) -> float:
    """Return the processor time so far of all living processes below this one, and of those below
    them that have ended; of another process and all below it, when that is given.
    """
    return sum(_cpu(pid) for pid in (tree(root) if root else _below(os.getpid(), _parents())))


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


def _cpu(pid: int) -> float:
    # User and system time, its own and of its children that it has waited for.
    return sum(int(field) for field in _stat(pid)[11:15]) / _TICKS


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
