"""How fast do two worker processes drain 10,000 accepted tasks that do nothing?

All are accepted, and their messages sent, before the worker starts. The clock runs from the moment
when both processes stand at their first task until every outcome is committed, where the side
keeps any: rows of ours and procrastinate's, keys in Redis, the end that the task itself wrote.
taskiq and dramatiq keep no history: theirs ends with the last task.
"""

import contextlib
import time

from bench.peers.adapter import PROCESSES
from bench.rounds import Bar, Bench
from bench.running import Control, wait_for_count, wait_for_processes
from bench.sides import (
    CELERY_POSTGRES,
    CELERY_REDIS,
    DRAMATIQ,
    FAST,
    OURS,
    PROCRASTINATE,
    SINGLE,
    STREAQ,
    TASKIQ,
)
from bench.yard import Yard

TITLE = "10,000 tasks that do nothing, two worker processes"
RATE = "drained"
BARS = (
    Bar(RATE, OURS.name, CELERY_REDIS.name, "at least", 1.3, aim=2.0),
    Bar(RATE, OURS.name, CELERY_POSTGRES.name, "at least", 1.6),
    Bar(RATE, OURS.name, PROCRASTINATE.name, "at least", 4.0),
    Bar(RATE, FAST.name, CELERY_REDIS.name, "at least", 2.0),
    Bar(RATE, FAST.name, TASKIQ.name, "at least", 0.7, aim=1.0),
)
SIDES = (
    OURS,
    FAST,
    SINGLE,
    CELERY_REDIS,
    CELERY_POSTGRES,
    PROCRASTINATE,
    TASKIQ,
    DRAMATIQ,
    STREAQ,
)
_SIZE = 10_000
_LONGEST_SECONDS = 240.0


def measure(bench: Bench) -> None:
    """Fill, drain and clear each side in turn."""
    size = bench.of(_SIZE, least=200)
    with contextlib.ExitStack() as stack:
        for number, control in bench.turns(bench.controls(stack, SIDES)):
            with bench.trying(control.side):
                control.call("fill", count=size)
                seconds = drain(bench.yard, control, size)
                bench.note(RATE, control.side, number, size / seconds, "1/s")
            control.call("clear")


def drain(yard: Yard, control: Control, size: int) -> float:
    """Return the seconds that a new worker takes for what was accepted."""
    with yard.worker(control.side) as (process, tally):
        wait_for_processes(process, tally, PROCESSES)
        # What a worker does right after its start is not what is asked for.
        time.sleep(1.0)
        started = time.monotonic_ns()
        tally.open_gate()
        wait_for_count(process, tally, size, _LONGEST_SECONDS)
        return float(control.call("settle", count=size) - started) / 1e9
