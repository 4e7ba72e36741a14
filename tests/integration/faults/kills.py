"""The run of random kills: every kind of process dies at random moments under load."""

import random
import signal
import time
from dataclasses import dataclass
from typing import Final

from tests.integration.faults import processes
from tests.integration.faults.load import Load
from tests.integration.faults.nodes import Node, Postgres
from tests.integration.faults.stack import Stack
from tests.integration.faults.supervisor import Supervisor
from tests.integration.faults.verdict import Verdict, judge

_KINDS: Final = ("worker", "child", "api", "beat")


@dataclass(frozen=True)
class KillPlan:
    """How many runs at which pace, how many kills over which time, and of what besides."""

    runs: int
    rate: float
    kills: int
    over_seconds: float
    seed: int
    patience_seconds: float
    kill_broker: bool = True
    restart_postgres: bool = True


@dataclass(frozen=True)
class KillReport:
    """The verdict, what was killed, and how long all of it took."""

    verdict: Verdict
    killed: dict[str, int]
    answers: dict[str, int]
    seconds: float


def run_kills(stack: Stack, postgres: Postgres, broker: Node, plan: KillPlan) -> KillReport:
    """Submit the runs, kill as planned, wait for the end; the same seed kills in the same order."""
    choices = random.Random(plan.seed)
    strokes = [choices.choice(_KINDS) for _ in range(plan.kills)]
    strokes += ["broker"] * plan.kill_broker + ["postgres"] * plan.restart_postgres
    choices.shuffle(strokes)
    moments = sorted(choices.uniform(0.05, 1.0) * plan.over_seconds for _ in strokes)
    killed: dict[str, int] = {}
    started = time.monotonic()
    with Supervisor(stack):
        load = Load(
            stack, "faults.note_effect", count=plan.runs, rate=plan.rate, seed=plan.seed
        ).start()
        for moment, kind in zip(moments, strokes, strict=True):
            time.sleep(max(0.0, started + moment - time.monotonic()))
            _strike(kind, stack, postgres, broker, choices)
            killed[kind] = killed.get(kind, 0) + 1
        answers = load.join()
        left = started + plan.patience_seconds - time.monotonic()
        stack.await_all_ended(max(left, 1.0))
    seconds = time.monotonic() - started
    return KillReport(judge(stack, answers.accepted), killed, answers.others, seconds)


def _strike(
    kind: str, stack: Stack, postgres: Postgres, broker: Node, choices: random.Random
) -> None:
    match kind:
        case "worker":
            choices.choice(stack.workers).kill()
        case "child":
            children = [pid for worker in stack.workers for pid in worker.children]
            if children:
                processes.send([choices.choice(children)], signal.SIGKILL)
        case "api":
            stack.api.kill()
        case "beat":
            choices.choice(stack.beats).kill()
        case "broker":
            broker.kill()
            broker.launch()
        case _:
            postgres.restart_immediately()
