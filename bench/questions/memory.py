"""How much memory does each process take that has done some work?

`resident` counts pages that forked children share in full; `own` is what would be free without the
process.
"""

import contextlib
import time
from pathlib import Path

from bench.apis import NOTHING, serving
from bench.load import post_for
from bench.processes import memory_of, tree
from bench.rounds import Bar, Bench
from bench.running import Control, wait_for_count
from bench.sides import CELERY_REDIS, DRAMATIQ, OURS, PROCRASTINATE, STREAQ, TASKIQ

TITLE = "memory of the processes"
COLUMNS = "metrics"
BARS: tuple[Bar, ...] = ()
_TASKS = 500
_LOAD_SECONDS = 2.0


def measure(bench: Bench) -> None:
    """Let each process work for a moment, then look."""
    with contextlib.ExitStack() as stack:
        controls = bench.controls(
            stack, (OURS, CELERY_REDIS, TASKIQ, DRAMATIQ, PROCRASTINATE, STREAQ)
        )
        for number in range(bench.rounds):
            if bench.wants(OURS):
                _api_and_beat(bench, number)
            for control in controls:
                with bench.trying(control.side):
                    _worker(bench, number, control)


def _api_and_beat(bench: Bench, number: int) -> None:
    with serving(bench.yard, OURS) as api:
        post_for(api.url, NOTHING, _LOAD_SECONDS, headers=api.headers)
        _note(bench, number, "taskyard api", api.process.popen.pid)
    with bench.yard.beat() as beat:
        time.sleep(5.0)
        beat.check()
        _note(bench, number, "taskyard beat", beat.popen.pid)


def _worker(bench: Bench, number: int, control: Control) -> None:
    size = bench.of(_TASKS, least=50)
    control.call("fill", count=size)
    with bench.yard.worker(control.side) as (process, tally):
        tally.open_gate()
        wait_for_count(process, tally, size)
        main, *children = tree(process.popen.pid)
        # A peer whose processes are a program each is started by a shell, which is none of it.
        if Path(f"/proc/{main}/comm").read_text() != "sh\n":
            _note(bench, number, f"{control.side.name}, main", main)
        working = max(children, key=lambda pid: memory_of(pid).own_mb, default=main)
        _note(bench, number, f"{control.side.name}, child", working)
    control.call("clear")


def _note(bench: Bench, number: int, role: str, pid: int) -> None:
    used = memory_of(pid)
    bench.note("resident", role, number, used.resident_mb, "MB")
    bench.note("own", role, number, used.own_mb, "MB")
