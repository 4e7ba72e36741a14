"""From the stacks of a sampling profiler to the share of each stage."""

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.running import BenchError
from bench.sides import PEERS_PYTHON

_PROFILER: Final = PEERS_PYTHON.with_name("py-spy")
_RATE: Final = 200
# A stage and what the path of a frame has in it; the first stage that matches is the frame's.
Stages = Sequence[tuple[str, str]]


def record(pid: int, seconds: float, output: Path) -> "subprocess.Popen[bytes]":
    """Start to sample the process and all below it for so long, into a file of stacks."""
    if not _PROFILER.exists():
        raise BenchError(f"{_PROFILER} is not there; run: make bench-setup")
    command = [
        *(str(_PROFILER), "record", "--pid", str(pid), "--subprocesses"),
        *("--format", "raw", "--rate", str(_RATE), "--duration", str(max(1, round(seconds)))),
        *("--output", str(output), "--nonblocking"),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def counts(lines: Iterable[str], stages: Stages, other: str) -> dict[str, int]:
    """Return the samples of each stage from lines like `outer (a.py:1);inner (b.py:2) 17`.

    A stack belongs to the stage of its innermost frame that has one, and else to `other`.
    """
    patterns = [(name, re.compile(pattern)) for name, pattern in stages]
    found = dict.fromkeys([name for name, _ in stages] + [other], 0)
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if stack:
            found[_stage(stack.split(";"), patterns) or other] += int(count)
    return {name: number for name, number in found.items() if number}


def shares(found: Mapping[str, int]) -> dict[str, float]:
    """Return the share of each stage, the greatest first."""
    total = sum(found.values())
    return {
        name: number / total
        for name, number in sorted(found.items(), key=lambda one: one[1], reverse=True)
    }


def _stage(frames: Sequence[str], patterns: Sequence[tuple[str, re.Pattern[str]]]) -> str | None:
    for frame in reversed(frames):
        for name, pattern in patterns:
            if pattern.search(frame):
                return name
    return None
