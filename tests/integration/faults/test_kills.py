"""Kills of everything at random moments under a small load."""

import pytest

from tests.integration.faults.kills import KillPlan, run_kills
from tests.integration.faults.nodes import Postgres, Rabbit
from tests.integration.faults.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SEED = 7


def test_kills_lose_nothing_and_double_nothing(
    stack: Stack, postgres: Postgres, broker: Rabbit
) -> None:
    plan = KillPlan(runs=400, rate=40, kills=6, over_seconds=10, seed=SEED, patience_seconds=120)
    report = run_kills(stack, postgres, broker, plan)
    print(report)  # noqa: T201 - the seed and the numbers belong into the log
    assert report.verdict.faults == {}, (report, stack.folder)
    assert report.verdict.accepted == plan.runs
