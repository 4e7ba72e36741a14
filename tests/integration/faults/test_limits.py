"""Limits over all workers while processes die; overlaps are seen by the tasks themselves."""

import itertools
import signal
import time
from collections.abc import Iterator

import pytest

from tests.integration.faults import processes
from tests.integration.faults.nodes import Kit, Postgres, Rabbit
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import Program, Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TRIGGERS = 50
INTERVAL_SECONDS = 0.2
EARLY_SECONDS = 1.0


@pytest.fixture(scope="module")
def yard(kit: Kit, postgres: Postgres, broker: Rabbit) -> Iterator[Stack]:
    """Two workers with room for four runs each, so that a limit has something to limit."""
    opened = Stack(kit, postgres, broker_url=broker.url)
    try:
        opened.start(workers=2, concurrency=4)
        yield opened
    finally:
        opened.end()


def test_fifty_triggers_of_one_slot_and_two_kills(yard: Stack) -> None:
    # The one whose main process dies takes longer than its lease: a child that outlived its main
    # process would still hold the lock when the next one comes.
    takes = {10: 2.0, 25: 5.0}
    items = [
        {"task": "faults.hold_alone", "params": {"seconds": takes.get(number, 0.05)}}
        for number in range(TRIGGERS)
    ]
    runs = yard.post("/api/v1/tasks/run/batch", items=items).json()["task_ids"]
    child = _process_of(yard, runs[10])
    processes.send([child], signal.SIGKILL)
    child = _process_of(yard, runs[25])
    worker = next(one for one in yard.workers if child in one.children)
    worker.kill()
    worker.start()
    counts = yard.await_all_ended()
    assert counts == {"SUCCEEDED": TRIGGERS}, yard.folder
    assert not yard.starts_file.with_suffix(".overlaps").exists(), yard.folder
    # Both kills have hit a run, and nobody else was charged for anything: waiting is free.
    assert [yard.attempt(run_id) for run_id in (runs[10], runs[25])] == [2, 2]
    assert sum(yard.attempt(run_id) for run_id in runs) == TRIGGERS + 2
    assert len(yard.starts()) == TRIGGERS + 2


def test_a_rate_holds_over_two_workers(yard: Stack) -> None:
    yard.forget()
    yard.post("/api/v1/tasks/run/batch", items=[{"task": "faults.keep_pace"}] * 20)
    assert yard.await_all_ended() == {"SUCCEEDED": 20}
    moments = sorted(at for *_, at in yard.starts())
    assert len(moments) == 20
    for first, last in itertools.combinations(range(20), 2):
        window = moments[last] - moments[first]
        # What an attempt takes from its claim to its first line may differ by this much.
        most = 1 + (window + EARLY_SECONDS + 0.5) / INTERVAL_SECONDS
        assert last - first + 1 <= most, (first, last, moments)
    assert {attempt for _, attempt, *_ in yard.starts()} == {1}


def test_a_pause_outlives_workers_beat_and_api(yard: Stack) -> None:
    yard.forget()
    assert yard.post("/api/v1/queues/default/pause", reason="a test").status_code == 200
    wait_until(lambda: yard.consumers() == 0, "the workers have let go of the queue")
    waiting = [yard.submit("faults.note_start") for _ in range(3)]
    for program in (*yard.workers, *yard.beats, yard.api):
        program.kill()
    for program in (*yard.workers, *yard.beats):
        program.start()
    yard.start_api()
    late = yard.submit("faults.note_start", delay_seconds=0.2)
    wait_until(lambda: all(_obeys(one) for one in yard.workers), "the workers obey again")
    # Longer than a worker takes from its children to its first message.
    time.sleep(5)
    assert yard.starts() == []
    assert yard.consumers() == 0
    assert yard.post("/api/v1/queues/default/resume").json()["paused"] is False
    assert yard.await_all_ended() == {"SUCCEEDED": 4}
    assert {run for run, *_ in yard.starts()} == {*waiting, late}


def _obeys(worker: Program) -> bool:
    """Return whether the worker, in its present life, has read that the queue is paused."""
    lines = worker.told.splitlines()
    return any("pauses.obeyed" in line and "default" in line for line in lines)


def _process_of(yard: Stack, run_id: str) -> int:
    """Return the process of an attempt as soon as it has begun."""

    def pids() -> list[int]:
        return [pid for run, _, pid, _ in yard.starts() if run == run_id]

    wait_until(lambda: bool(pids()), f"{run_id} has begun")
    return pids()[-1]
