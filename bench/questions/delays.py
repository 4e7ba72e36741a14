"""100,000 delayed tasks: how fast are they sent, how late do they start, what do they cost?

A fifth of the 100,000 is sent in each round, due in an hour, against a share of it by Celery's
native delayed delivery, whose rate does not depend on the number. Then, while all of them wait, in
each round some more become due within half a minute, and each tells how late it started; as many
had become due before, when none waited, so that the memory of the workers can be compared. Ours
waits up to the next rung of its ladder of delays (docs/decisions/0003-delay-ladder.md); what is
beyond it is late.
"""

import contextlib

from bench.peers.tally import Tally
from bench.processes import own_mb
from bench.rounds import Bar, Bench
from bench.running import Control, wait_for_count
from bench.sides import CELERY_DELAYED, OURS
from bench.statistics import percentile

TITLE = "100,000 delayed tasks"
RATE, BEYOND, GROWTH = "sent", "latest beyond the rounding", "growth of the worker's memory"
BARS = (
    Bar(RATE, OURS.name, CELERY_DELAYED.name, "at least", 4.0),
    Bar(BEYOND, OURS.name, None, "at most", 1000.0),
    Bar(GROWTH, OURS.name, None, "at most", 1.05),
)
_SIZE = 100_000
_PEER_SIZE = 1_000
_HOUR = 3600.0
_SOON = 1_000
_SOON_SECONDS = (10.0, 30.0)
_FIRST = 50


def measure(bench: Bench) -> None:
    """Send in turns, then wait for those that are due soon."""
    with contextlib.ExitStack() as stack:
        controls = bench.controls(stack, (OURS, CELERY_DELAYED))
        workers = {
            control.side: stack.enter_context(bench.yard.worker(control.side))
            for control in controls
        }
        before = {}
        for control in controls:
            # As many as later, before any waits: what they make a worker load is no growth.
            process, tally = workers[control.side]
            control.call("stamped", count=_FIRST, gap=0.0)
            wait_for_count(process, tally, _FIRST)
            _become_due(bench, control)
            wait_for_count(process, tally, _FIRST + _soon(bench))
            before[control.side] = own_mb(process.popen.pid)
        sizes = {OURS: bench.of(_SIZE) // bench.rounds, CELERY_DELAYED: bench.of(_PEER_SIZE)}
        for number, control in bench.turns(controls):
            size = sizes[control.side]
            seconds = control.call("delay", count=size, low=_HOUR, high=_HOUR + 600.0)
            bench.note(RATE, control.side, number, size / seconds, "1/s")
        for number, control in bench.turns(controls):
            process, tally = workers[control.side]
            with bench.trying(control.side):
                tally.forget_stamps()
                _become_due(bench, control)
                wait_for_count(process, tally, _FIRST + (number + 2) * _soon(bench))
                _tell(bench, number, control, tally)
            after = own_mb(process.popen.pid)
            bench.note(GROWTH, control.side, number, after / before[control.side], "times")


def _become_due(bench: Bench, control: Control) -> None:
    low, high = _SOON_SECONDS
    control.call("delay", count=_soon(bench), low=low, high=high)


def _tell(bench: Bench, number: int, control: Control, tally: Tally) -> None:
    late = tally.delays_ms()
    bench.note("late, p50", control.side, number, percentile(late, 50), "ms")
    bench.note("latest", control.side, number, max(late), "ms")
    bench.note("earliest", control.side, number, min(late), "ms")
    if control.side.is_ours:
        beyond = control.call("beyond_rounding", count=_soon(bench))
        bench.note(BEYOND, control.side, number, beyond, "ms")


def _soon(bench: Bench) -> int:
    return bench.of(_SOON, least=20)
