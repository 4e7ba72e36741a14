"""What the processes of a worker use, read from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Used:
    """Memory of one process in MB: `own` is what would be free without it."""

    role: str
    pid: int
    own_mb: float
    resident_mb: float


def worker_memory(root: int | None = None) -> list[Used]:
    """Return the memory of every worker process below `root` (this process), by role."""
    parents = _parents()
    roles: dict[int, str] = {}
    for pid in _below(root or os.getpid(), parents):
        role = _role(pid, parents[pid], roles)
        if role:
            roles[pid] = role
    return [used for pid, role in sorted(roles.items()) if (used := _memory(pid, role))]


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process so far, 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _role(pid: int, parent: int, roles: dict[int, str]) -> str | None:
    command = _command(pid)
    if "sandbox_zygote" in command:
        return "lint child" if roles.get(parent) == "zygote" else "zygote"
    if command.partition(" ")[2].startswith(("worker", "-m app.cli worker")) or (
        "taskyard worker" in command
    ):
        return "worker child" if roles.get(parent) == "worker main" else "worker main"
    return None


def _memory(pid: int, role: str) -> Used | None:
    values: dict[str, int] = {}
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0])
    own = values.get("Private_Clean", 0) + values.get("Private_Dirty", 0)
    return Used(role, pid, own / 1024, values.get("Rss", 0) / 1024)


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found[int(entry.name)] = int(fields[1])
    return found


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
