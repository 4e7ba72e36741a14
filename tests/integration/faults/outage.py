"""The broker away while requests come in at a steady pace."""

import time
from dataclasses import dataclass

from tests.integration.faults.load import Answers, Load
from tests.integration.faults.nodes import Rabbit
from tests.integration.faults.stack import Stack
from tests.integration.faults.verdict import Verdict, judge

TASK = "faults.note_effect"


@dataclass(frozen=True)
class OutageReport:
    """The answers with the broker up and away, and the verdict over all of their runs."""

    verdict: Verdict
    up: Answers
    away: Answers
    drained_seconds: float


def run_outage(
    stack: Stack, broker: Rabbit, *, rate: float, up_seconds: float, away_seconds: float, seed: int
) -> OutageReport:
    """Measure the answers with the broker up, then away; bring it back and wait for the end."""
    up = Load(stack, TASK, count=int(rate * up_seconds), rate=rate, seed=seed).start().join()
    stack.await_all_ended()
    broker.stop()
    count = int(rate * away_seconds)
    away = Load(stack, TASK, count=count, rate=rate, seed=seed + 1).start().join()
    broker.start()
    back = time.monotonic()
    stack.await_all_ended(300)
    drained = time.monotonic() - back
    return OutageReport(judge(stack, [*up.accepted, *away.accepted]), up, away, drained)
