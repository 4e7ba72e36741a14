"""One run delivered five times: copies of each wake-up wait before the workers come."""

import random
import time
from collections import Counter
from dataclasses import dataclass

from tests.integration.faults.load import Load
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import Stack
from tests.integration.faults.verdict import Verdict, judge

TASK = "faults.note_start"


@dataclass(frozen=True)
class DeliveryReport:
    """The verdict, the starts of attempts, and the messages that were delivered."""

    verdict: Verdict
    starts: int
    started_twice: int
    messages: int
    seconds: float


def run_deliveries(
    stack: Stack, *, runs: int, copies: int, workers: int, seed: int
) -> DeliveryReport:
    """Accept the runs, add copies of their messages, then let the workers race for them."""
    started = time.monotonic()
    accepted = Load(stack, TASK, count=runs, rate=500, seed=seed).start().join().accepted
    wait_until(lambda: stack.waiting_messages() >= runs, "a message of each run waits")
    ids = [run_id for run_id in accepted for _ in range(copies - 1)]
    # Half of the copies stand side by side, so that children race; the others come at any time.
    half = len(ids) // 2
    tail = ids[half:]
    random.Random(seed).shuffle(tail)
    queue = stack.topology.broker_queue("default", 5)
    with stack.channel() as channel:
        for run_id in [*ids[:half], *tail]:
            channel.basic_publish(stack.wakeup(run_id, TASK), "", queue)
    waiting = stack.waiting_messages()
    for _ in range(workers):
        stack.add_worker()
    stack.await_workers()
    stack.await_all_ended(300)
    # The copies of what has ended are still on their way through the workers.
    stack.await_empty_queue()
    starts = Counter(run_id for run_id, *_ in stack.starts())
    return DeliveryReport(
        judge(stack, accepted, effects=False),
        starts.total(),
        sum(count > 1 for count in starts.values()),
        waiting,
        time.monotonic() - started,
    )
