"""Freeze and thaw: a worker stands still in the middle of its runs until others have them."""

import functools
import random
import threading
import time
from dataclasses import dataclass, field

from tests.integration.faults.load import Load
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import Program, Stack
from tests.integration.faults.verdict import Verdict, judge

LOST_LEASE = '"event":"attempt lost its lease"'


@dataclass
class ZombieReport:
    """The verdict; in how many cycles the frozen worker held runs, and how many writes failed."""

    verdict: Verdict
    cycles: int
    with_runs_taken: int
    refused_writes: int
    seconds: float


@dataclass
class _Count:
    lock: threading.Lock = field(default_factory=threading.Lock)
    left: int = 0
    taken: int = 0

    def take(self) -> bool:
        with self.lock:
            self.left -= 1
            return self.left >= 0


def run_zombies(stack: Stack, *, cycles: int, at_once: int, seed: int) -> ZombieReport:
    """Freeze and thaw so often, `at_once` workers at a time; at least one more must stay awake."""
    assert at_once < len(stack.workers)
    started = time.monotonic()
    lease = stack.product_settings.celery.lease_seconds
    takes = lease / 4
    # As much as the workers can do that stay awake, so that nothing is left to wait for at the end.
    awake = sum(len(worker.children) for worker in stack.workers[at_once:])
    load = Load(
        stack,
        "faults.note_effect",
        count=1_000_000,
        rate=1.1 * awake / takes,
        params={"seconds": takes},
        seed=seed,
        most_waiting=4 * len(stack.workers),
    ).start()
    count = _Count(left=cycles)
    threads = [
        threading.Thread(target=_haunt, args=(stack, worker, count, lease, random.Random(seed + n)))
        for n, worker in enumerate(stack.workers[:at_once])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers = load.stop()
    stack.await_all_ended(240)
    refused = sum(worker.log.read_text().count(LOST_LEASE) for worker in stack.workers)
    return ZombieReport(
        judge(stack, answers.accepted), cycles, count.taken, refused, time.monotonic() - started
    )


def _haunt(
    stack: Stack, worker: Program, count: _Count, lease: float, choices: random.Random
) -> None:
    while count.take():
        held = _freeze_in_a_run(stack, worker, choices, lease / 4)
        time.sleep(lease + choices.uniform(0.0, 1.0))
        # Thawed at the best moment for harm: when somebody else has the run.
        wait_until(functools.partial(_are_taken, stack, worker, held), "its runs are taken")
        with count.lock:
            count.taken += 1
        worker.thaw()
        time.sleep(choices.uniform(0.2, 1.0))


def _freeze_in_a_run(
    stack: Stack, worker: Program, choices: random.Random, takes: float
) -> set[str]:
    """Freeze the worker in the middle of a run; return what it holds."""
    while True:
        wait_until(lambda: bool(_runs_of(stack, worker)), f"{worker.name} holds a run", 240)
        time.sleep(choices.uniform(0.0, takes / 2))
        worker.freeze()
        if held := _runs_of(stack, worker):
            return held
        worker.thaw()  # It had just ended.


def _are_taken(stack: Stack, worker: Program, held: set[str]) -> bool:
    return not held & _runs_of(stack, worker)


def _runs_of(stack: Stack, worker: Program) -> set[str]:
    """Return the runs whose lease the worker holds."""
    rows = stack.ask(
        "SELECT id::text FROM task_runs WHERE status = 'RUNNING' AND lease_owner LIKE %s",
        f"worker-{worker.pid}@%",
    )
    return {row[0] for row in rows}
