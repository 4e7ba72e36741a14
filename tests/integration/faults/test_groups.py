"""Groups of tiny runs: what becomes of all of them when something ends one in the middle."""

import signal
from collections.abc import Iterator

import pytest

from tests.integration.faults import processes
from tests.integration.faults.nodes import Kit, Postgres, Rabbit
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import QUICK, Program, Stack
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
    wait_until(lambda: any(run == holder for run, *_ in yard.starts()), "the process is held")
    items = [{"task": task, "params": params} for task, params in calls]
    answer = yard.post("/api/v1/tasks/run/batch", items=items)
    assert answer.status_code == 202, answer.text
    return [holder, *answer.json()["task_ids"]]


def small(count: int) -> list[Call]:
    """Return runs that leave an effect, each recorded by itself."""
    return [("faults.note_effect", {"seconds": 0.0})] * count


def bare(count: int) -> list[Call]:
    """Return runs whose success is all that they leave, recorded together."""
    return [("faults.note_start", {"seconds": 0.0})] * count


def begun(yard: Stack, run_id: str) -> int:
    return [run for run, *_ in yard.starts()].count(run_id)


def await_begin(yard: Stack, run_id: str) -> None:
    wait_until(lambda: begun(yard, run_id) > 0, f"{run_id} has begun, see {yard.folder}")


def attempts(yard: Stack, runs: list[str]) -> list[int]:
    return [yard.attempt(run_id) for run_id in runs]


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
    assert yard.await_status(poison, "FAILED", "SUCCEEDED") == "FAILED"
    assert yard.await_all_ended() == {"SUCCEEDED": len(runs), "FAILED": 1}
    assert (yard.attempt(poison), begun(yard, poison)) == (2, 2)
    assert attempts(yard, runs) == [1] * len(runs)
    effects = yard.sql("SELECT run_id, count(*) FROM fault_effects GROUP BY 1")
    assert sorted(count for _, count in effects) == [1] * 7
    # Those that had left their effect did not run again; those that were not recorded did.
    assert [begun(yard, run_id) for run_id in runs[1:4]] == [1, 1, 1]
    assert yard.waiting_messages() == 0


def test_a_process_that_is_killed_from_outside_charges_what_it_was_at(yard: Stack) -> None:
    runs = submit_group(yard, *small(2), BLOCKER, *small(4), *bare(4))
    blocker = runs[3]
    await_begin(yard, blocker)
    processes.send(the_worker(yard).children, signal.SIGKILL)
    yard.await_all_ended()
    assert judge(yard, runs, effects=False).faults == {}
    assert [yard.attempt(run_id) for run_id in runs if run_id != blocker] == [1] * 11
    assert (yard.attempt(blocker), begun(yard, blocker)) == (2, 2)


def test_a_worker_that_is_killed_loses_nothing(yard: Stack) -> None:
    runs = submit_group(yard, *small(3), BLOCKER, *small(SIZE * 2))
    await_begin(yard, runs[4])
    the_worker(yard).kill()
    the_worker(yard).start()
    yard.await_all_ended()
    verdict = judge(yard, runs)
    assert verdict.faults == {}, (verdict, yard.folder)
    # Nobody is left who knows what the process had begun: all that it had claimed is charged.
    assert sum(attempt == 2 for attempt in attempts(yard, runs)) <= SIZE
    assert max(attempts(yard, runs)) <= 2


def test_a_worker_that_ends_gives_the_rest_of_its_group_back(yard: Stack) -> None:
    runs = submit_group(
        yard, *small(3), ("faults.block_thread", {"seconds": 1.0}), *small(SIZE * 2)
    )
    await_begin(yard, runs[4])
    worker = the_worker(yard)
    worker.terminate()
    assert worker.wait() == 0
    assert [yard.status(run_id) for run_id in runs[:5]] == ["SUCCEEDED"] * 5
    assert {yard.status(run_id) for run_id in runs[5:]} == {"PENDING"}
    assert set(attempts(yard, runs[5:])) == {0}
    # The sweeper may have sent some of them again.
    assert yard.waiting_messages() >= SIZE * 2
    worker.start()
    yard.await_all_ended()
    assert judge(yard, runs).faults == {}
    assert {begun(yard, run_id) for run_id in runs} == {1}


def test_what_outlives_the_grace_is_given_back_with_its_group(yard: Stack) -> None:
    runs = submit_group(yard, *bare(3), ("faults.block_thread", {"seconds": 6.0}), *small(5))
    await_begin(yard, runs[4])
    worker = the_worker(yard)
    worker.terminate()
    assert worker.wait() == 0
    assert {yard.status(run_id) for run_id in runs[1:]} == {"PENDING"}
    assert set(attempts(yard, runs[1:])) == {0}
    worker.start()
    yard.await_all_ended()
    assert judge(yard, runs, effects=False).faults == {}
    assert set(attempts(yard, runs)) == {1}


def test_a_connection_that_breaks_during_a_group_costs_nothing(yard: Stack, broker: Rabbit) -> None:
    runs = submit_group(yard, *small(3), BLOCKER, *small(SIZE))
    await_begin(yard, runs[4])
    broker.control("close_all_connections", "a test")
    yard.await_all_ended()
    verdict = judge(yard, runs)
    assert verdict.faults == {}, (verdict, yard.folder)
    assert set(attempts(yard, runs)) == {1}
    told = the_worker(yard).told
    assert "unknown delivery tag" not in told
    assert "Couldn't ack" not in told
    yard.await_empty_queue()


def test_a_run_past_its_hard_limit_takes_its_process_and_no_other_run(yard: Stack) -> None:
    runs = submit_group(yard, *[("faults.outlast_limit", {})] * 2, *small(3))
    yard.await_all_ended()
    assert [yard.status(run_id) for run_id in runs[1:3]] == ["FAILED", "FAILED"]
    assert [begun(yard, run_id) for run_id in runs[1:3]] == [1, 1]
    assert {yard.status(run_id) for run_id in (runs[0], *runs[3:])} == {"SUCCEEDED"}
    assert set(attempts(yard, runs)) == {1}


def test_a_run_past_its_soft_limit_ends_alone(yard: Stack) -> None:
    runs = submit_group(yard, *[("faults.outlast_soft_limit", {"seconds": 3.0})], *small(3))
    yard.await_all_ended()
    assert yard.status(runs[1]) == "FAILED"
    assert yard.sql("SELECT error->>'type' FROM task_runs WHERE id = %s", runs[1]) == [
        ("TimeoutError",)
    ]
    assert set(attempts(yard, runs)) == {1}
