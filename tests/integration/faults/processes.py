"""Processes of the kit by pid: who descends from whom, signals, and what a crash leaves behind.

Reads /proc, so it needs Linux. Every process that the kit starts carries the variable
`MARK` with the kit's token; so the processes of a kit can be told from all others.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

MARK: Final = "TASKYARD_TEST_KIT"
# Set to anything, it keeps the folder with the logs of every process.
KEEP: Final = "FAULTS_KEEP_LOGS"
# The kit's last word to its keeper when its folder is to stay.
KEEP_FOLDER: Final = b"keep"
PATIENCE_SECONDS: Final = 180.0
_FIRST_PAUSE_SECONDS: Final = 0.01
_LONGEST_PAUSE_SECONDS: Final = 0.1


def parents() -> dict[int, int]:
    """Return the parent of every process."""
    found = {}
    for pid in _all():
        with contextlib.suppress(OSError, ValueError):
            # The name in brackets may hold spaces and brackets itself.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                found[pid] = int(fields[1])
    return found


def descendants(pid: int) -> list[int]:
    """Return the living processes below `pid`, the nearest first."""
    by_parent: dict[int, list[int]] = {}
    for child, parent in parents().items():
        by_parent.setdefault(parent, []).append(child)
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in sorted(by_parent.get(parent, ()))]
        found += level
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal each process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def is_alive(pid: int) -> bool:
    """Return whether the process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def name_of(pid: int) -> str:
    """Return the short name of a process, empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def marked(token: str) -> list[int]:
    """Return the pids of the processes that carry the kit's token, however they came to be."""
    mark = f"{MARK}={token}".encode()
    found = []
    for pid in _all():
        if pid != os.getpid():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found.append(pid)
    return found


def _all() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def end_marked(token: str) -> None:
    """Kill everything of a kit and what descends from it."""
    deadline = time.monotonic() + 10
    while (pids := marked(token)) and time.monotonic() < deadline:
        below = [child for pid in pids for child in descendants(pid)]
        send([*pids, *below], signal.SIGKILL)
        time.sleep(0.05)


def wait_until(
    is_so: Callable[[], bool], what: str | Callable[[], str], seconds: float = PATIENCE_SECONDS
) -> None:
    """Return when it is so; fail with `what` when it takes too long."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        before = time.monotonic()
        if is_so():
            return
        now = time.monotonic()
        if now > deadline:
            told = what if isinstance(what, str) else what()
            raise TimeoutError(f"not within {seconds:g} s: {told}")
        # A question that costs much must not slow down what it asks about.
        pause = min(pause * 1.2, _LONGEST_PAUSE_SECONDS)
        time.sleep(max(pause, now - before))


def watch_over(token: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the keeper: when this process is gone, however it ended, it clears up after the kit."""
    return subprocess.Popen(
        [sys.executable, "-I", __file__, token, str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


def _keep() -> None:
    token, folder = sys.argv[1], sys.argv[2]
    # The signals of a terminal or of a stopping test run are for the others.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # The pipe ends when its other end is closed: by the kit, or by the kernel after a crash.
    last_word = sys.stdin.buffer.read()
    end_marked(token)
    if KEEP not in os.environ and last_word != KEEP_FOLDER:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _keep()
