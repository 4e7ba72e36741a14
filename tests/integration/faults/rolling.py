"""Rolling restarts: every worker is asked to end and started again, under load."""

import time
from dataclasses import dataclass

from tests.integration.faults.load import Load
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import Stack
from tests.integration.faults.verdict import Verdict, judge


@dataclass(frozen=True)
class RollingReport:
    """The verdict, the attempts that were charged for restarts, and how the workers ended."""

    verdict: Verdict
    charged: int
    restarts: int
    exit_codes: dict[int, int]
    slowest_stop_seconds: float
    seconds: float


def run_rolling(
    stack: Stack, *, rounds: int, rate: float, seed: int, takes: float
) -> RollingReport:
    """Restart each worker in turn, so often, while runs are submitted at a pace."""
    started = time.monotonic()
    load = Load(
        stack,
        "faults.note_effect",
        count=1_000_000,
        rate=rate,
        params={"seconds": takes},
        seed=seed,
        most_waiting=25 * len(stack.workers),
    ).start()
    codes: dict[int, int] = {}
    slowest = 0.0
    for _ in range(rounds):
        for worker in stack.workers:
            before = time.monotonic()
            worker.terminate()
            code = worker.wait()
            slowest = max(slowest, time.monotonic() - before)
            codes[code] = codes.get(code, 0) + 1
            worker.start()
            wait_until(lambda: stack.consumers() >= len(stack.workers), "the worker is back")
    answers = load.stop()
    stack.await_all_ended()
    charged = stack.sql("SELECT coalesce(sum(greatest(attempt, 1) - 1), 0) FROM task_runs")[0][0]
    return RollingReport(
        judge(stack, answers.accepted),
        int(charged),
        rounds * len(stack.workers),
        codes,
        slowest,
        time.monotonic() - started,
    )
