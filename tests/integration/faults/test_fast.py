"""The profile `fast`: processes that run their tasks themselves, under a supervisor."""

import signal
from collections.abc import Iterator

import pytest

from tests.integration.faults import processes
from tests.integration.faults.nodes import Kit, Postgres, Rabbit
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import QUICK, UNHARMED, Program, Stack
from tests.integration.faults.verdict import judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PROCESSES = 2
SETTINGS = {
    **QUICK,
    "TASKYARD_CELERY__TINY_QUEUES": '{"default": 16}',
    "TASKYARD_CELERY__QUEUES": '["slow"]',
    "TASKYARD_CELERY__SHUTDOWN_GRACE_SECONDS": "2",
    "TASKYARD_CELERY__CANCEL_GRACE_SECONDS": "1",
}
# Handed over in groups, or one by one.
both_queues = pytest.mark.parametrize("queue", ["default", "slow"])


@pytest.fixture(scope="module")
def yard(kit: Kit, postgres: Postgres, broker: Rabbit) -> Iterator[Stack]:
    opened = Stack(kit, postgres, broker_url=broker.url, settings=SETTINGS)
    try:
        opened.add_worker(PROCESSES, profile="fast")
        opened.add_beat()
        opened.start_api()
        yield opened
    finally:
        opened.end()


@pytest.fixture
def worker(yard: Stack) -> Program:
    """Return the one worker, at work, with nothing to do."""
    (worker,) = yard.workers
    if not worker.is_running:
        worker.start()
    wait_until(lambda: yard.consumers() >= PROCESSES, "all processes consume")
    yard.await_all_ended()
    yard.forget()
    return worker


def submit(yard: Stack, queue: str, *tasks: str, **params: float) -> list[str]:
    return [yard.submit(task, params, queue=queue) for task in tasks]


def effects(yard: Stack, queue: str, count: int) -> list[str]:
    return yard.submit_batch([{"task": "faults.note_effect", "options": {"queue": queue}}] * count)


@both_queues
def test_a_run_that_kills_its_process_is_charged_alone(
    yard: Stack, worker: Program, queue: str
) -> None:
    before = set(worker.children)
    (poison,) = submit(yard, queue, "faults.kill_itself")
    runs = effects(yard, queue, 30)
    assert yard.await_outcomes([poison, *runs]) == [("FAILED", 2)] + [UNHARMED] * 30
    assert len(yard.sql("SELECT 1 FROM fault_effects")) == len(runs)
    wait_until(lambda: len(worker.children) == PROCESSES, "the dead are replaced")
    assert set(worker.children) != before


@both_queues
def test_limits_end_a_run_softly_and_then_its_process(
    yard: Stack, worker: Program, queue: str
) -> None:
    (soft,) = submit(yard, queue, "faults.outlast_soft_limit", seconds=5.0)
    (hard,) = submit(yard, queue, "faults.ignore_soft_limit")
    runs = [soft, hard, *effects(yard, queue, 5)]
    assert yard.await_outcomes(runs) == [("FAILED", 1)] * 2 + [UNHARMED] * 5
    assert [yard.error_type(run_id) for run_id in (soft, hard)] == ["TimeoutError"] * 2
    assert worker.is_running


@both_queues
def test_a_cancelled_function_that_does_not_listen_ends_with_its_process(
    yard: Stack, worker: Program, queue: str
) -> None:
    (held,) = submit(yard, queue, "faults.block_thread", seconds=60.0)
    yard.await_begin(held)
    runs = [held, *effects(yard, queue, 5)]
    assert yard.post(f"/api/v1/tasks/{held}/cancel").status_code in (200, 202)
    assert yard.await_outcomes(runs, 60) == [("CANCELLED", 1)] + [UNHARMED] * 5
    assert worker.is_running


@both_queues
def test_a_stop_lets_runs_end_and_gives_back_what_outlives_the_grace(
    yard: Stack, worker: Program, queue: str
) -> None:
    (short,) = submit(yard, queue, "faults.block_thread", seconds=1.0)
    yard.await_begin(short)
    (long,) = submit(yard, queue, "faults.block_thread", seconds=8.0)
    yard.await_begin(long)
    runs = effects(yard, queue, 20)
    worker.terminate()
    assert worker.wait(30) == 0
    assert yard.outcomes([short, long]) == [UNHARMED, ("PENDING", 0)]
    worker.start()
    assert set(yard.await_outcomes([short, long, *runs])) == {UNHARMED}
    assert judge(yard, [short, long, *runs]).faults == {}


def test_a_killed_supervisor_takes_its_processes_along_and_loses_nothing(
    yard: Stack, worker: Program
) -> None:
    (held,) = submit(yard, "default", "faults.block_thread", seconds=1.0)
    yard.await_begin(held)
    runs = effects(yard, "default", 30)
    children = worker.children
    worker.kill()
    wait_until(lambda: not any(map(processes.is_alive, children)), "the processes have ended")
    worker.start()
    yard.await_all_ended()
    verdict = judge(yard, [held, *runs])
    assert verdict.faults == {}, (verdict, yard.folder)


def test_a_process_that_is_killed_from_outside_is_replaced(yard: Stack, worker: Program) -> None:
    (held,) = submit(yard, "default", "faults.block_thread", seconds=5.0)
    yard.await_begin(held)
    runs = effects(yard, "default", 10)
    (pid,) = {pid for run, _, pid, _ in yard.starts() if run == held}
    processes.send([pid], signal.SIGKILL)
    assert yard.await_outcomes([held, *runs]) == [("SUCCEEDED", 2)] + [UNHARMED] * 10
    assert judge(yard, [held, *runs]).faults == {}


def test_a_malformed_message_is_a_dead_letter(yard: Stack, worker: Program) -> None:
    yard.publish(b"hello", headers={"task": "faults.note_effect"})
    (run_id,) = effects(yard, "default", 1)
    wait_until(lambda: len(yard.sql("SELECT 1 FROM dead_letters")) == 1, "the letter is kept")
    assert yard.await_status(run_id, "SUCCEEDED", "FAILED") == "SUCCEEDED"
    assert worker.is_running
