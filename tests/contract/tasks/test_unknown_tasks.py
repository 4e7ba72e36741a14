"""A run whose task a worker has no code for: it waits for one that has, and not for ever."""

from collections.abc import Callable

from app import register_task
from app.common.ids import new_id
from app.tasks.execution import Disposition
from app.tasks.sweeper import Sweeper
from tests.contract.tasks.test_run_life import claim, make_due
from tests.harness import Installation, Somebody

Install = Callable[..., Installation]


@register_task("test.new", max_attempts=1)
async def new_task() -> str:
    """Exist in newer code only."""
    return "done"


@register_task("test.old")
async def old_task() -> None:
    """Exist in older code too."""


def roll_back(install: Install) -> tuple[Installation, Installation, str]:
    """Return new code, old code, and a run that only the new code knows."""
    new, old = install(new_task, old_task), install(old_task)
    return new, old, new.submit("test.new").task_id


def wait(yard: Installation, run_id: str, days: float) -> None:
    """Let the first time that the run was given back lie so many days back."""
    rows = yard.sql("SELECT min(id) FROM task_run_events WHERE to_status = 'RETRYING'")
    moment = f"-{days} days" if yard.is_sqlite else f"{days} days"
    ago = (
        "strftime('%Y-%m-%d %H:%M:%f000', 'now', :ago)"
        if yard.is_sqlite
        else "now() - CAST(:ago AS text)::interval"
    )
    yard.sql(f"UPDATE task_run_events SET at = {ago} WHERE id = :id", ago=moment, id=rows[0][0])


def test_a_run_waits_uncharged_until_a_worker_knows_its_task(install: Install) -> None:
    new, old, run_id = roll_back(install)
    assert old.executor.execute_unknown(old.runner, run_id, "test.new") is Disposition.DONE
    row = old.row(run_id)
    assert (row.status, row.attempt, row.lease_owner) == ("RETRYING", 0, None)
    assert row.error == {
        "type": "TaskNotRegistered",
        "message": "No worker knows the task 'test.new'.",
        "retryable": True,
    }
    (again,) = old.transport.sent
    assert (again.run_id, again.function, again.delay_seconds) == (run_id, "test.new", 1.0)
    make_due(new, run_id)
    assert new.deliver(run_id) is Disposition.DONE
    row = new.row(run_id)
    assert (row.status, row.result, row.attempt, row.error) == ("SUCCEEDED", "done", 1, None)


def test_each_wait_is_longer_up_to_five_minutes(install: Install) -> None:
    _, old, run_id = roll_back(install)
    for _ in range(11):
        make_due(old, run_id)
        old.executor.execute_unknown(old.runner, run_id, "test.new")
    delays = [wakeup.delay_seconds for wakeup in old.transport.sent]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert old.row(run_id).attempt == 0


def test_a_run_that_nobody_knows_for_a_day_fails_with_a_dead_letter(install: Install) -> None:
    _, old, run_id = roll_back(install)
    for days in (0.9, 1.1):
        old.executor.execute_unknown(old.runner, run_id, "test.new")
        assert old.row(run_id).status == "RETRYING"
        wait(old, run_id, days)
        make_due(old, run_id)
    old.executor.execute_unknown(old.runner, run_id, "test.new")
    row = old.row(run_id)
    letter = old.run(old.services.runs.dead_letter(run_id))
    assert (row.status, row.error["type"]) == ("FAILED", "TaskNotRegistered")
    assert letter is not None
    assert (letter.id, letter.error_type) == (row.dead_letter_id, "TaskNotRegistered")
    assert [to for _, to in old.events(run_id)].count("FAILED") == 1


def test_only_the_waits_since_the_task_was_last_known_count(install: Install) -> None:
    new, old, run_id = roll_back(install)
    old.executor.execute_unknown(old.runner, run_id, "test.new")
    wait(old, run_id, 9)
    make_due(new, run_id)
    # A worker with the code takes it and goes silent, and the code is rolled back once more.
    new.sql("UPDATE task_runs SET max_attempts = 3")
    claim(new, run_id)
    new.lose_lease(run_id)
    new.run(Sweeper(new.services).sweep())
    old.executor.execute_unknown(old.runner, run_id, "test.new")
    assert old.row(run_id).status == "RETRYING"
    assert old.transport.sent[-1].delay_seconds == 1.0


def test_a_cancelled_run_does_not_wait_for_code(install: Install) -> None:
    _, old, run_id = roll_back(install)
    old.executor.execute_unknown(old.runner, run_id, "test.new")
    old.run(old.services.runs.cancel(run_id, Somebody()))
    make_due(old, run_id)
    old.executor.execute_unknown(old.runner, run_id, "test.new")
    assert old.row(run_id).status == "CANCELLED"


def test_a_message_that_is_not_the_runs_own_is_refused(install: Install) -> None:
    new, _, run_id = roll_back(install)
    execute = new.executor.execute_unknown
    assert execute(new.runner, run_id, "os.system") is Disposition.UNKNOWN
    assert execute(new.runner, new_id(), "test.new") is Disposition.UNKNOWN
    assert execute(new.runner, "no id", "test.new") is Disposition.UNKNOWN
    assert new.row(run_id).status == "PENDING"


def test_a_forged_name_charges_nothing_either(install: Install) -> None:
    _, old, run_id = roll_back(install)
    # The message says `test.old`, which this worker knows; the row says otherwise.
    assert old.deliver(run_id) is Disposition.DONE
    assert (old.row(run_id).status, old.row(run_id).attempt) == ("RETRYING", 0)
