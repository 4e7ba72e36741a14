"""Kills, freezes, restarts of the product's processes under a small load."""

import signal

import pytest

from tests.integration.faults import processes
from tests.integration.faults.cancels import run_cancels
from tests.integration.faults.deliveries import run_deliveries
from tests.integration.faults.kills import KillPlan, run_kills
from tests.integration.faults.nodes import Postgres, Rabbit
from tests.integration.faults.processes import wait_until
from tests.integration.faults.rolling import run_rolling
from tests.integration.faults.stack import Stack
from tests.integration.faults.verdict import judge
from tests.integration.faults.zombies import run_zombies

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEED = 7


def test_kills_lose_nothing_and_double_nothing(
    stack: Stack, postgres: Postgres, broker: Rabbit
) -> None:
    plan = KillPlan(runs=300, rate=25, kills=6, over_seconds=12, seed=SEED, patience_seconds=240)
    report = run_kills(stack, postgres, broker, plan)
    assert report.verdict.faults == {}, (report, stack.folder)
    assert report.verdict.accepted == plan.runs


def test_a_zombie_writes_nothing(stack: Stack) -> None:
    report = run_zombies(stack, cycles=2, at_once=1, seed=SEED)
    assert report.verdict.faults == {}, (report, stack.folder)
    assert report.with_runs_taken == report.cycles
    assert report.refused_writes > 0  # Else nothing was put to the test.


def test_rolling_restarts_charge_no_attempt(stack: Stack) -> None:
    report = run_rolling(stack, rounds=1, rate=10, seed=SEED, takes=0.5)
    assert report.verdict.faults == {}, (report, stack.folder)
    assert report.charged == 0, report
    assert report.exit_codes == {0: report.restarts}


def test_cancels_that_race_with_the_end_leave_one_end(stack: Stack) -> None:
    report = run_cancels(stack, runs=60, seed=SEED)
    assert (report.not_one_end, report.broken_promises) == (0, 0), report
    assert set(report.answers) <= {"202", "409"}
    assert len(report.ends) > 1, "no race: all runs ended alike"


def test_a_run_delivered_five_times_starts_once(stack: Stack) -> None:
    # The row itself starts the workers, when all copies wait for them.
    while stack.workers:
        stack.workers.pop().end()
    wait_until(lambda: stack.consumers() == 0, "nobody consumes")
    report = run_deliveries(stack, runs=50, copies=5, workers=2, seed=SEED)
    assert report.verdict.faults == {}, report
    assert (report.starts, report.started_twice) == (50, 0)
    assert report.messages >= 250


@pytest.mark.parametrize(
    ("task", "starts"),
    [("faults.kill_itself", 2), ("faults.crash_process", 2), ("faults.outlast_limit", 1)],
)
def test_a_run_that_ends_its_process_fails_for_good(stack: Stack, task: str, starts: int) -> None:
    poison = stack.submit(task)
    bystander = stack.submit("faults.note_effect")
    assert stack.await_status(poison, "FAILED", "SUCCEEDED") == "FAILED"
    assert stack.await_status(bystander, "FAILED", "SUCCEEDED") == "SUCCEEDED"
    assert [run for run, *_ in stack.starts()].count(poison) == starts
    # The letter of a test before may be archived only now.
    letters = stack.sql("SELECT run_id::text FROM dead_letters")
    assert [run for (run,) in letters if run in (poison, bystander)] == [poison]
    assert all(worker.is_running for worker in stack.workers)


def test_the_children_of_a_killed_worker_end_as_well(stack: Stack) -> None:
    worker = stack.workers[0]
    children = worker.children
    assert children
    worker.kill()
    wait_until(lambda: not any(map(processes.is_alive, children)), "the children have ended")
    worker.start()
    stack.await_workers()


def test_a_worker_that_stops_at_once_leaves_its_runs_to_the_next(stack: Stack) -> None:
    worker = stack.workers[0]
    runs = [stack.submit("faults.note_effect", {"seconds": 3}) for _ in range(4)]
    wait_until(lambda: any(pid in worker.children for *_, pid, _ in stack.starts()), "it has one")
    children = worker.children
    processes.send([worker.pid], signal.SIGQUIT)
    worker.wait()
    assert not any(map(processes.is_alive, children))
    stack.await_all_ended()
    assert judge(stack, runs).faults == {}
    worker.start()
    stack.await_workers()


def test_a_frozen_child_is_ended_by_its_deadline(stack: Stack) -> None:
    # The main process goes on beating the lease, so only the run's time limit can end this.
    run_id = stack.submit("faults.note_start", {"seconds": 1.0}, timeout_seconds=2, max_attempts=2)
    wait_until(lambda: bool(stack.starts()), "the run has started")
    pid = stack.starts()[0][2]
    processes.send([pid], signal.SIGSTOP)
    try:
        assert stack.await_status(run_id, "SUCCEEDED", "FAILED") == "SUCCEEDED"
    finally:
        processes.send([pid], signal.SIGCONT)
    assert stack.attempt(run_id) == 2
