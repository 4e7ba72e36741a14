"""A process dies at every named place; whatever had happened by then, there is one outcome."""

import time
from collections.abc import Iterator

import pytest

from app.common.failpoints import NAMES, VARIABLE
from tests.integration.faults import schedule_firings
from tests.integration.faults.load import Load
from tests.integration.faults.nodes import Kit, Postgres, Rabbit
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import Stack, message_of
from tests.integration.faults.supervisor import Supervisor
from tests.integration.faults.verdict import judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEED = 13
RUNS = 12
TASK = "faults.note_effect"

# Which process passes the point, and the task that leads it there.
PLACES = {
    "submission.before_commit": ("api", "faults.note_effect"),
    "submission.after_commit": ("api", "faults.note_effect"),
    "publisher.before_publish": ("api", "faults.note_effect"),
    "publisher.after_confirm": ("api", "faults.note_effect"),
    "execution.after_claim": ("worker", "faults.note_effect"),
    "execution.before_record": ("worker", "faults.note_effect"),
    "outcome.before_commit": ("worker", "faults.note_effect"),
    "outcome.between_binds": ("worker", "faults.note_effect"),
    "outcome.after_commit": ("worker", "faults.note_effect"),
    "storage.before_rename": ("worker", "faults.store_large"),
    "storage.after_rename": ("worker", "faults.store_large"),
}


ARCHIVE = "archive.after_commit"  # It has a test of its own.


@pytest.fixture(scope="module")
def stack(kit: Kit, postgres: Postgres, broker: Rabbit) -> Iterator[Stack]:
    """One worker is enough: it outlives its children."""
    opened = Stack(kit, postgres, broker_url=broker.url)
    try:
        opened.start(workers=1)
        yield opened
    finally:
        opened.end()


def _stays_locked(stack: Stack, run_id: str) -> bool:
    """Whether somebody holds the run's row for longer than a statement of any other kind would."""
    free = "SELECT 1 FROM task_runs WHERE id = %s FOR UPDATE SKIP LOCKED"
    for _ in range(5):
        if stack.sql(free, run_id):
            return False
        time.sleep(0.1)
    return True


def test_a_worker_that_freezes_in_its_commit_holds_nobody_up(stack: Stack) -> None:
    (victim,) = stack.workers
    # It stands still with its outcome written and not committed: its row is locked.
    victim.restart(**{VARIABLE: "outcome.between_binds=sleep(60)"})
    stack.await_ready(victim)
    frozen = stack.submit(TASK)
    wait_until(lambda: frozen in {run for run, *_ in stack.starts()}, "the run starts")
    wait_until(lambda: _stays_locked(stack, frozen), "its row is locked")
    victim.freeze()
    try:
        other = stack.add_worker()
        stack.await_ready(other)
        lost = stack.submit(TASK, {"seconds": 2})
        wait_until(lambda: lost in {run for run, *_ in stack.starts()}, "the other run starts")
        other.restart()
        stack.await_status(lost, "SUCCEEDED")
        stack.await_status(frozen, "SUCCEEDED")
    finally:
        victim.end()
        stack.workers.remove(victim)
    verdict = judge(stack, [frozen, lost])
    assert verdict.faults == {}, (verdict, stack.folder)
    assert verdict.retried == 2


def test_a_beat_that_dies_after_keeping_a_message_keeps_it_once(stack: Stack) -> None:
    (beat,) = stack.beats
    beat.end()
    queue = stack.topology.dead_letter_queue_name("default")
    with stack.channel() as channel:
        # What the faults before have left there is not what the beat shall die of.
        channel.queue_purge(queue)
        # Two are equal in everything, and the death falls between them.
        for body in ("same", "same", "other"):
            channel.basic_publish(message_of(body, {}), "", queue)

    def kept() -> list[str]:
        bodies = "SELECT message ->> 'body' FROM dead_letters ORDER BY id"
        return [row[0] for row in stack.sql(bodies) if row[0] in {"same", "other"}]

    beat.start(**{VARIABLE: f"{ARCHIVE}=exit"})
    wait_until(lambda: not beat.is_running, "the beat dies with the letter kept and not taken off")
    assert kept() == ["same"]
    beat.start()
    wait_until(lambda: "other" in kept(), "the archive goes on")
    assert sorted(kept()) == ["other", "same", "same"]


def test_every_failpoint_has_its_place_here() -> None:
    assert set(PLACES) | schedule_firings.PLACES | {ARCHIVE} == NAMES


@pytest.mark.parametrize("name", [name for _, name in sorted((PLACES[n], n) for n in PLACES)])
def test_a_death_at_any_place_leaves_one_outcome(stack: Stack, name: str) -> None:
    where, task = PLACES[name]
    # Each process, each child of a worker too, dies at its first or third passage.
    turn = 1 if name.startswith("publisher") else 3
    deadly = {VARIABLE: f"{name}=exit:{turn}"}
    (worker,) = stack.workers
    for program, kind in ((stack.api, "api"), (worker, "worker")):
        variables = deadly if kind == where else {}
        if not program.is_running or program.variables != variables:
            program.restart(**variables)
            if program is worker:
                stack.await_ready(worker)
    # The supervisor starts a dead API again without the failpoint.
    with Supervisor(stack, after_seconds=0.2) as supervisor:
        answers = Load(stack, task, count=RUNS, rate=20, seed=SEED).start().join()
        stack.await_all_ended()
    verdict = judge(stack, answers.accepted, effects=task == "faults.note_effect")
    assert verdict.faults == {}, (verdict, stack.folder)
    assert verdict.accepted == RUNS
    if where == "api":
        assert supervisor.restarts == 1
    elif name == "outcome.after_commit":
        assert verdict.retried == 0
    else:
        assert verdict.retried > 0
