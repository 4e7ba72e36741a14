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


def worker_memory() -> list[Used]:
    """Return the memory of every worker process below this one, with its role."""
    return [Used(role, pid, _own_mb(pid)) for pid, role in _roles().items()]


def cpu_seconds() -> float:
    """Return the processor time so far of all living processes below this one, and of those below
    them that have ended.
    """
    return sum(_cpu(pid) for pid in _below(os.getpid(), _parents()))


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


def _own_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0.0
    kilobytes = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return kilobytes / 1024


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
