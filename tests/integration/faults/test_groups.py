"""Groups of tiny runs: what becomes of all of them when something ends one in the middle."""

import signal
from collections.abc import Iterator

import pytest

from tests.integration.faults import processes
from tests.integration.faults.nodes import Kit, Postgres, Rabbit
from tests.integration.faults.stack import QUICK, UNHARMED, Program, Stack
from tests.integration.faults.verdict import judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SIZE = 16
TINY = {
    **QUICK,
    "TASKYARD_CELERY__TINY_QUEUES": f'{{"default": {SIZE}}}',
    "TASKYARD_CELERY__RESERVED_PROCESSES": "0",
    "TASKYARD_CELERY__SHUTDOWN_GRACE_SECONDS": "2",
}
HOLDER = ("faults.note_effect", {"seconds": 1.5})
BLOCKER = ("faults.block_thread", {"seconds": 3.0})


@pytest.fixture(scope="module")
def yard(kit: Kit, postgres: Postgres, broker: Rabbit) -> Iterator[Stack]:
    """One worker with one process, so that what waits goes together."""
    opened = Stack(kit, postgres, broker_url=broker.url, settings=TINY)
    try:
        opened.start(workers=1, concurrency=1)
        yield opened
    finally:
        opened.end()


@pytest.fixture(autouse=True)
def _begin_empty(yard: Stack) -> None:
    for worker in yard.workers:
        if not worker.is_running:
            worker.start()
    yard.await_workers()
    yard.await_all_ended()
    yard.forget()


Call = tuple[str, dict[str, float]]


def submit_group(yard: Stack, *calls: Call) -> list[str]:
    """Have the calls wait for the one process, which then gets them as one group."""
    holder = yard.submit(*HOLDER)
    yard.await_begin(holder)
    return [
        holder,
        *yard.submit_batch([{"task": task, "params": params} for task, params in calls]),
    ]


def small(count: int) -> list[Call]:
    """Return runs that leave an effect, each recorded by itself."""
    return [("faults.note_effect", {"seconds": 0.0})] * count


def bare(count: int) -> list[Call]:
    """Return runs whose success is all that they leave, recorded together."""
    return [("faults.note_start", {"seconds": 0.0})] * count


def the_worker(yard: Stack) -> Program:
    (worker,) = yard.workers
    return worker


def test_what_waits_is_claimed_and_recorded_together(yard: Stack) -> None:
    runs = submit_group(yard, *bare(SIZE * 2))
    assert yard.await_all_ended() == {"SUCCEEDED": len(runs)}
    assert judge(yard, runs, effects=False).faults == {}
    moments = yard.sql("SELECT started_at, count(*) FROM task_runs GROUP BY 1")
    assert max(count for _, count in moments) == SIZE, moments
    ends = yard.sql("SELECT finished_at, count(*) FROM task_runs GROUP BY 1")
    assert max(count for _, count in ends) == SIZE, ends


def test_a_run_that_kills_its_process_is_charged_alone(yard: Stack) -> None:
    runs = submit_group(yard, *small(3), *bare(3), ("faults.kill_itself", {}), *small(3), *bare(3))
    poison = runs.pop(7)
    assert yard.await_outcomes([poison, *runs]) == [("FAILED", 2)] + [UNHARMED] * len(runs)
    assert yard.begun(poison) == 2
    effects = yard.sql("SELECT run_id, count(*) FROM fault_effects GROUP BY 1")
    assert sorted(count for _, count in effects) == [1] * 7
    # Those that had left their effect did not run again; those that were not recorded did.
    assert [yard.begun(run_id) for run_id in runs[1:4]] == [1, 1, 1]
    assert yard.waiting_messages() == 0


def test_a_process_that_is_killed_from_outside_charges_what_it_was_at(yard: Stack) -> None:
    runs = submit_group(yard, *small(2), BLOCKER, *small(4), *bare(4))
    blocker = runs[3]
    yard.await_begin(blocker)
    processes.send(the_worker(yard).children, signal.SIGKILL)
    outcomes = yard.await_outcomes(runs)
    assert outcomes == [*[UNHARMED] * 3, ("SUCCEEDED", 2), *[UNHARMED] * 8]
    assert judge(yard, runs, effects=False).faults == {}
    assert yard.begun(blocker) == 2


def test_a_worker_that_is_killed_loses_nothing(yard: Stack) -> None:
    runs = submit_group(yard, *small(3), BLOCKER, *small(SIZE * 2))
    yard.await_begin(runs[4])
    the_worker(yard).kill()
    the_worker(yard).start()
    attempts = [attempt for _, attempt in yard.await_outcomes(runs)]
    verdict = judge(yard, runs)
    assert verdict.faults == {}, (verdict, yard.folder)
    # Nobody is left who knows what the process had begun: all that it had claimed is charged.
    assert attempts.count(2) <= SIZE
    assert max(attempts) <= 2


def test_a_worker_that_ends_gives_the_rest_of_its_group_back(yard: Stack) -> None:
    runs = submit_group(
        yard, *small(3), ("faults.block_thread", {"seconds": 1.0}), *small(SIZE * 2)
    )
    yard.await_begin(runs[4])
    worker = the_worker(yard)
    worker.terminate()
    assert worker.wait() == 0
    assert yard.outcomes(runs) == [UNHARMED] * 5 + [("PENDING", 0)] * SIZE * 2
    # The sweeper may have sent some of them again.
    assert yard.waiting_messages() >= SIZE * 2
    worker.start()
    yard.await_all_ended()
    assert judge(yard, runs).faults == {}
    assert {yard.begun(run_id) for run_id in runs} == {1}


def test_what_outlives_the_grace_is_given_back_with_its_group(yard: Stack) -> None:
    runs = submit_group(yard, *bare(3), ("faults.block_thread", {"seconds": 6.0}), *small(5))
    yard.await_begin(runs[4])
    worker = the_worker(yard)
    worker.terminate()
    assert worker.wait() == 0
    assert set(yard.outcomes(runs[1:])) == {("PENDING", 0)}
    worker.start()
    assert set(yard.await_outcomes(runs)) == {UNHARMED}
    assert judge(yard, runs, effects=False).faults == {}


def test_a_connection_that_breaks_during_a_group_costs_nothing(yard: Stack, broker: Rabbit) -> None:
    runs = submit_group(yard, *small(3), BLOCKER, *small(SIZE))
    yard.await_begin(runs[4])
    broker.control("close_all_connections", "a test")
    outcomes = yard.await_outcomes(runs)
    verdict = judge(yard, runs)
    assert verdict.faults == {}, (verdict, yard.folder)
    assert set(outcomes) == {UNHARMED}
    told = the_worker(yard).told
    assert "unknown delivery tag" not in told
    assert "Couldn't ack" not in told
    yard.await_empty_queue()


def test_a_run_past_its_hard_limit_takes_its_process_and_no_other_run(yard: Stack) -> None:
    runs = submit_group(yard, *[("faults.outlast_limit", {})] * 2, *small(3))
    assert yard.await_outcomes(runs) == [UNHARMED, *[("FAILED", 1)] * 2, *[UNHARMED] * 3]
    assert [yard.begun(run_id) for run_id in runs[1:3]] == [1, 1]


def test_a_run_past_its_soft_limit_ends_alone(yard: Stack) -> None:
    runs = submit_group(yard, *[("faults.outlast_soft_limit", {"seconds": 3.0})], *small(3))
    assert yard.await_outcomes(runs) == [UNHARMED, ("FAILED", 1), *[UNHARMED] * 3]
    assert yard.error_type(runs[1]) == "TimeoutError"
