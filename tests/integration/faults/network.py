"""A bad network to the broker and to the database: slow, broken again and again, silent."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.integration.faults.load import Load
from tests.integration.faults.proxy import Fault, Proxy
from tests.integration.faults.stack import Stack
from tests.integration.faults.verdict import Verdict, judge

TASK: Final = "faults.note_effect"


@dataclass(frozen=True)
class Line:
    """A way that everything goes, and what is always wrong with it."""

    proxy: Proxy
    fault: Fault


@dataclass(frozen=True)
class NetworkPlan:
    """How many runs at which pace, and what breaks in the time in which they are submitted."""

    runs: int
    rate: float
    resets: int
    holes: int
    hole_seconds: float
    cut_after_bytes: int
    seed: int
    patience_seconds: float


@dataclass(frozen=True)
class NetworkReport:
    """The verdict, every answer that was no 202, and how long all of it took."""

    verdict: Verdict
    answers: dict[str, int]
    seconds: float


def run_network(stack: Stack, lines: Sequence[Line], plan: NetworkPlan) -> NetworkReport:
    """Submit the runs over bad lines; the same seed breaks them in the same order."""
    choices = random.Random(plan.seed)
    strokes = ["reset"] * plan.resets + ["hole"] * plan.holes + ["cut"]
    choices.shuffle(strokes)
    over_seconds = plan.runs / plan.rate
    moments = sorted(choices.uniform(0.05, 1.0) * over_seconds for _ in strokes)
    started = time.monotonic()
    for line in lines:
        line.proxy.fault = line.fault
    load = Load(stack, TASK, count=plan.runs, rate=plan.rate, seed=plan.seed).start()
    for moment, stroke in zip(moments, strokes, strict=True):
        time.sleep(max(0.0, started + moment - time.monotonic()))
        _strike(stroke, choices.choice(lines), plan)
    answers = load.join()
    for line in lines:
        line.proxy.heal()
    left = started + plan.patience_seconds - time.monotonic()
    stack.await_all_ended(max(left, 1.0))
    seconds = time.monotonic() - started
    return NetworkReport(judge(stack, answers.accepted), answers.others, seconds)


def _strike(stroke: str, line: Line, plan: NetworkPlan) -> None:
    match stroke:
        case "reset":
            line.proxy.reset()
        case "hole":
            line.proxy.fault = Fault(black_hole=True)
            time.sleep(plan.hole_seconds)
            line.proxy.heal()
            line.proxy.fault = line.fault
        case _:
            # From here on a connection breaks in the middle of whatever it says, commits too.
            line.proxy.fault = Fault(
                line.fault.latency_seconds,
                line.fault.jitter_seconds,
                cut_after_bytes=plan.cut_after_bytes,
            )
