"""What a worker's main process records of an attempt whose own process is gone."""

from collections.abc import Callable
from typing import Any

import pytest

from app import register_task
from app.tasks.errors import StaleAttempt
from app.tasks.execution import Disposition
from app.tasks.losses import (
    WorkerLost,
    end_cancelled,
    give_back,
    give_back_all,
    held_by,
    record_loss,
)
from app.tasks.outcomes import Told, record, succeeded
from app.tasks.results import EncodedResult
from app.tasks.transitions import CLAIM, REQUEST_CANCEL, apply
from tests.harness import Installation

Install = Callable[..., Installation]
OWNER = "gone:1"
LOST = WorkerLost("signal 9")


@register_task("test.lost", max_attempts=2, backoff_seconds=100, jitter=0)
async def lost() -> None:
    """Do nothing."""


@register_task("test.lost_at_once", max_attempts=2, backoff_seconds=0)
async def lost_at_once() -> None:
    """Do nothing, and wait for nothing before another attempt."""


def start(yard: Installation, task: str = "test.lost") -> Any:
    run_id = yard.submit(task).task_id
    return claim(yard, run_id)


def claim(yard: Installation, run_id: str) -> Any:
    values = {"run_id": run_id, "worker": OWNER, "actor": "worker", "lease_seconds": 300.0}
    claimed = yard.run(apply(yard.services.databases, CLAIM, values))
    assert claimed is not None
    return claimed


def ask_to_cancel(yard: Installation, run_id: str) -> None:
    async def ask() -> None:
        async with yard.services.databases.begin("postgres_main") as connection:
            await connection.execute(REQUEST_CANCEL, {"run_id": run_id})

    yard.run(ask())


def lose(yard: Installation, run_id: str, owner: str = OWNER, error: Exception = LOST) -> bool:
    return record_loss(yard.services.databases, run_id, owner, error)


def assert_fenced_off(yard: Installation, claimed: Any) -> None:
    """The attempt's process, should it not be dead after all, can write nothing any more."""
    before = yard.row(claimed.id)
    outcome = succeeded(EncodedResult(value="late"), Told(), [])
    with pytest.raises(StaleAttempt):
        yard.run(record(yard.services.databases, claimed, outcome, {}, "gone"))
    assert yard.row(claimed.id) == before


def test_a_lost_attempt_is_tried_again_after_its_backoff(install: Install) -> None:
    yard = install(lost)
    claimed = start(yard)
    assert lose(yard, claimed.id)
    row = yard.row(claimed.id)
    assert (row.status, row.attempt, row.fence) == ("RETRYING", 1, claimed.fence + 1)
    assert row.error == {"type": "WorkerLost", "message": "signal 9", "retryable": True}
    assert (row.lease_owner, row.lease_expires_at, row.published_at) == (None, None, None)
    assert (row.scheduled_for - claimed.started_at).total_seconds() >= 100
    assert yard.events(claimed.id)[-1] == ("RUNNING", "RETRYING")
    assert_fenced_off(yard, claimed)


def test_the_message_that_comes_back_early_waits_for_the_backoff(install: Install) -> None:
    yard = install(lost)
    claimed = start(yard)
    lose(yard, claimed.id)
    yard.transport.sent.clear()
    assert yard.deliver(claimed.id) is Disposition.DONE
    (wakeup,) = yard.transport.sent
    assert wakeup.run_id == claimed.id
    assert 50 < wakeup.delay_seconds <= 100


def test_the_message_that_comes_back_in_time_starts_the_next_attempt(install: Install) -> None:
    yard = install(lost_at_once)
    claimed = start(yard, "test.lost_at_once")
    lose(yard, claimed.id)
    yard.deliver(claimed.id)
    row = yard.row(claimed.id)
    assert (row.status, row.attempt) == ("SUCCEEDED", 2)


def test_the_last_attempt_that_is_lost_fails_with_its_dead_letter(install: Install) -> None:
    yard = install(lost_at_once)
    run_id = start(yard, "test.lost_at_once").id
    lose(yard, run_id)
    claimed = claim(yard, run_id)
    assert lose(yard, run_id, error=TimeoutError("too long"))
    row = yard.row(run_id)
    letter = yard.run(yard.services.runs.dead_letter(run_id))
    assert (row.status, row.attempt, row.fence) == ("FAILED", 2, claimed.fence + 1)
    assert (row.error["type"], row.error["message"]) == ("TimeoutError", "too long")
    assert row.finished_at is not None
    assert letter is not None
    assert (letter.id, letter.error_type, letter.attempts) == (
        row.dead_letter_id,
        "TimeoutError",
        2,
    )
    assert yard.events(run_id)[-1] == ("RUNNING", "FAILED")
    assert_fenced_off(yard, claimed)


def test_a_lost_attempt_of_a_cancelled_run_ends_it(install: Install) -> None:
    yard = install(lost)
    claimed = start(yard)
    ask_to_cancel(yard, claimed.id)
    assert lose(yard, claimed.id)
    row = yard.row(claimed.id)
    assert (row.status, row.dead_letter_id) == ("CANCELLED", None)
    assert yard.run(yard.services.runs.dead_letter(claimed.id)) is None


@pytest.mark.parametrize("tell", [lose, lambda yard, run_id, owner: give_back(
    yard.services.databases, run_id, owner
)], ids=["lost", "given back"])  # fmt: skip
def test_only_the_attempt_of_the_owner_is_touched(install: Install, tell: Any) -> None:
    yard = install(lost)
    claimed = start(yard)
    before = yard.row(claimed.id)
    assert not tell(yard, claimed.id, "gone:2")
    assert yard.row(claimed.id) == before
    done = yard.submit("test.lost").task_id
    yard.deliver(done)
    assert not tell(yard, done, OWNER)
    assert yard.row(done).status == "SUCCEEDED"


def test_a_loss_is_recorded_once(install: Install) -> None:
    yard = install(lost)
    claimed = start(yard)
    assert lose(yard, claimed.id)
    assert not lose(yard, claimed.id)
    assert not give_back(yard.services.databases, claimed.id, OWNER)
    assert yard.row(claimed.id).attempt == 1


@pytest.mark.parametrize("task", [lost, lost_at_once])
def test_what_is_given_back_costs_no_attempt(install: Install, task: Any) -> None:
    yard = install(lost, lost_at_once)
    name = "test.lost" if task is lost else "test.lost_at_once"
    claimed = start(yard, name)
    status = "PENDING"
    if task is lost_at_once:
        lose(yard, claimed.id)
        claimed, status = claim(yard, claimed.id), "RETRYING"
    assert give_back(yard.services.databases, claimed.id, OWNER)
    row = yard.row(claimed.id)
    assert (row.status, row.attempt) == (status, claimed.attempt - 1)
    assert (row.fence, row.lease_owner, row.published_at) == (claimed.fence + 1, None, None)
    assert yard.events(claimed.id)[-1] == ("RUNNING", status)
    assert_fenced_off(yard, claimed)
    yard.deliver(claimed.id)
    row = yard.row(claimed.id)
    assert (row.status, row.attempt) == ("SUCCEEDED", claimed.attempt)


def test_what_an_owner_holds_is_given_back_together(install: Install) -> None:
    yard = install(lost)
    databases = yard.services.databases
    mine = [str(start(yard).id) for _ in range(3)]
    done = yard.submit("test.lost").task_id
    yard.deliver(done)
    assert sorted(held_by(databases, OWNER)) == sorted(mine)
    assert held_by(databases, "gone:2") == []
    # One has ended in the meantime.
    assert lose(yard, mine[0])
    assert give_back_all(databases, [*mine, done], OWNER) == set(mine[1:])
    assert [yard.row(run_id).attempt for run_id in mine] == [1, 0, 0]
    assert held_by(databases, OWNER) == []
    assert give_back_all(databases, mine, OWNER) == set()


def test_a_cancelled_run_is_not_given_back(install: Install) -> None:
    yard = install(lost)
    claimed = start(yard)
    ask_to_cancel(yard, claimed.id)
    assert give_back(yard.services.databases, claimed.id, OWNER)
    assert yard.row(claimed.id).status == "CANCELLED"


def test_a_cancelled_run_that_does_not_stop_is_ended_and_fenced_off(install: Install) -> None:
    yard = install(lost)
    claimed = start(yard)
    databases = yard.services.databases
    assert not end_cancelled(databases, claimed.id, OWNER)
    ask_to_cancel(yard, claimed.id)
    assert not end_cancelled(databases, claimed.id, "gone:2")
    assert yard.row(claimed.id).status == "RUNNING"
    assert end_cancelled(databases, claimed.id, OWNER)
    row = yard.row(claimed.id)
    assert (row.status, row.attempt, row.fence) == ("CANCELLED", 1, claimed.fence + 1)
    assert (row.lease_owner, row.error, row.dead_letter_id) == (None, None, None)
    assert row.finished_at is not None
    assert yard.events(claimed.id)[-1] == ("RUNNING", "CANCELLED")
    assert_fenced_off(yard, claimed)
    # Its process dies of the kill that follows: nothing is charged or tried again.
    assert not lose(yard, claimed.id)
    assert not end_cancelled(databases, claimed.id, OWNER)
