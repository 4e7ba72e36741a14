"""The test kit does what production does, and moves only when it is told to."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.common.clock import utc_now
from app.tasks.errors import (
    IdempotencyKeyReused,
    InvalidParams,
    RunHasEnded,
    TaskDeclarationError,
    TaskNotRegistered,
)
from app.testing import Kit, open_kit
from tests.contract.testing.tasks_for_the_kit import ALL, MARKS, every_hour

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def kit() -> Iterator[Kit]:
    MARKS.clear()
    with open_kit(tasks=ALL, start=START) as opened:
        yield opened


def test_a_retry_comes_exactly_when_its_backoff_says(kit: Kit) -> None:
    run = kit.run("yard.fail_first", {"times": 2})
    assert (run.status, run.attempt) == ("RETRYING", 1)
    assert run.error is not None
    assert (run.error["type"], run.error["retryable"]) == ("Disk", True)
    kit.advance(9.999)
    assert run.attempt == 1
    kit.advance(0.001)
    assert (run.status, run.attempt) == ("RETRYING", 2)
    kit.advance(20)
    assert (run.status, run.result) == ("SUCCEEDED", "done by attempt 3")
    assert run.logs == ["attempt", "attempt", "attempt"]
    assert run.row.finished_at == START + timedelta(seconds=30)
    assert run.statuses == ["PENDING", *["RUNNING", "RETRYING"] * 2, "RUNNING", "SUCCEEDED"]


def test_one_long_advance_stops_at_everything_that_falls_due(kit: Kit) -> None:
    run = kit.run("yard.fail_first", {"times": 2})
    later = kit.submit("yard.append_mark", {"mark": "later"}, delay_seconds=15)
    kit.advance(hours=1)
    assert run.status == later.status == "SUCCEEDED"
    assert run.row.finished_at == START + timedelta(seconds=30)
    assert later.row.started_at == START + timedelta(seconds=15)
    assert kit.now == START + timedelta(hours=1)


def test_the_task_may_choose_the_pause(kit: Kit) -> None:
    run = kit.run("yard.wait_and_see")
    kit.advance(89)
    assert run.status == "RETRYING"
    kit.advance(1)
    assert (run.status, run.result) == ("SUCCEEDED", 2)


def test_a_run_that_fails_for_good_leaves_a_dead_letter_that_can_be_replayed(kit: Kit) -> None:
    run = kit.run("yard.give_up", {"reason": "no such customer"})
    assert (run.status, run.attempt) == ("FAILED", 1)
    assert run.dead_letter is not None
    assert run.dead_letter.error_message == "no such customer"
    again = kit.replay(run, {"reason": "still not there"})
    kit.work()
    assert again.row.replay_of == run.id
    assert again.dead_letter is not None
    assert again.dead_letter.error_message == "still not there"


def test_attempts_end_in_a_dead_letter_too(kit: Kit) -> None:
    run = kit.run("yard.fail_first", {"times": 9})
    kit.advance(minutes=5)
    assert (run.status, run.attempt) == ("FAILED", 3)
    assert run.dead_letter is not None


def test_replaying_what_did_not_fail_is_refused(kit: Kit) -> None:
    run = kit.run("yard.append_mark", {"mark": "a"})
    assert run.dead_letter is None
    with pytest.raises(LookupError, match="left no dead letter"):
        kit.replay(run)


def test_wrong_submissions_are_refused_as_by_the_api(kit: Kit) -> None:
    with pytest.raises(InvalidParams) as caught:
        kit.submit("yard.append_mark", {"mark": 5})
    assert [fault.loc for fault in caught.value.errors] == [("params", "mark")]
    with pytest.raises(TaskNotRegistered):
        kit.submit("yard.append_marks", {"mark": "a"})
    kit.submit("yard.append_mark", {"mark": "a"}, idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        kit.submit("yard.append_mark", {"mark": "b"}, idempotency_key="k")
    assert len(kit.runs) == 1


def test_delays_and_urgency_order_the_work(kit: Kit) -> None:
    kit.submit("yard.append_mark", {"mark": "low"}, priority=0)
    kit.submit("yard.append_mark", {"mark": "first"})
    kit.submit("yard.append_mark", {"mark": "delayed"}, delay_seconds=60)
    kit.submit("yard.append_mark", {"mark": "second"})
    kit.submit("yard.append_mark", {"mark": "urgent"}, priority=9)
    assert MARKS == []
    assert kit.work() == 4
    assert MARKS == ["urgent", "first", "second", "low"]
    kit.advance(60)
    assert MARKS[-1] == "delayed"


def test_a_run_may_be_due_at_a_moment(kit: Kit) -> None:
    run = kit.run("yard.append_mark", {"mark": "a"}, run_at=START + timedelta(hours=2))
    assert run.status == "SCHEDULED"
    kit.advance(hours=1, minutes=59)
    assert run.status == "SCHEDULED"
    kit.advance(minutes=1)
    assert run.status == "SUCCEEDED"


def test_children_exist_with_their_parents_success_only(kit: Kit) -> None:
    failed = kit.run("yard.fan_out", {"children": 2, "fail": True})
    assert (failed.status, failed.children) == ("FAILED", [])
    run = kit.run("yard.fan_out", {"children": 3})
    assert [child.id for child in run.children] == run.result
    assert [child.status for child in run.children] == ["SUCCEEDED", "SCHEDULED", "SCHEDULED"]
    kit.advance(2)
    assert MARKS == ["child 0", "child 1", "child 2"]


def test_a_session_commits_with_the_outcome_or_not_at_all(kit: Kit) -> None:
    kit.run("yard.make_note", {"note": "kept"})
    kit.run("yard.make_note", {"note": "dropped", "fail": True})
    with kit.session("postgres_main") as session:
        names = session.execute(text("SELECT name FROM leases WHERE holder = 'x'")).scalars().all()
    assert names == ["kept"]


def test_files_and_large_results_are_in_memory(kit: Kit) -> None:
    run = kit.run("yard.keep_file", {"size": 100_000})
    assert kit.storage.get("yard/file.txt") == b"x" * 100_000
    assert run.row.result is None
    assert run.result == "y" * 100_000


def test_time_stands_still_for_python_and_sqlite(kit: Kit) -> None:
    assert utc_now() == START
    kit.advance(1.5)
    told = kit.run("yard.tell_time").result
    assert told["python"] == "2026-03-01T12:00:01.500000+00:00"
    assert told["sqlite"] == ["2026-03-01 12:00:01", "2026-03-01 13:00:01", "2026-03-01"]
    assert told["seen"] == 1


def test_the_clock_runs_again_afterwards() -> None:
    with open_kit(tasks=ALL, start=START):
        assert utc_now() == START
    assert utc_now() > START + timedelta(days=30)


def test_a_worker_that_dies_before_its_commit_costs_an_attempt_and_no_work(kit: Kit) -> None:
    kit.lose_next_attempt()
    run = kit.run("yard.make_note", {"note": "once"})
    assert (run.status, run.attempt) == ("RUNNING", 1)
    lease_seconds = kit.services.settings.celery.lease_seconds
    kit.advance(lease_seconds - 1)
    assert run.status == "RUNNING"
    kit.advance(2)
    assert (run.status, run.attempt) == ("SUCCEEDED", 2)
    with kit.session("postgres_main") as session:
        statement = text("SELECT count(*) FROM leases WHERE name = 'once'")
        assert session.execute(statement).scalar() == 1


def test_effects_elsewhere_happen_twice_when_a_worker_dies(kit: Kit) -> None:
    kit.lose_next_attempt()
    kit.run("yard.append_mark", {"mark": "a"})
    kit.advance(minutes=1)
    assert MARKS == ["a", "a"]


def test_a_message_that_comes_twice_runs_once(kit: Kit) -> None:
    run = kit.run("yard.append_mark", {"mark": "a"})
    kit.redeliver(run)
    assert MARKS == ["a"]
    assert run.attempt == 1


def test_a_broker_that_is_away_delays_and_loses_nothing(kit: Kit) -> None:
    kit.broker.confirms = False
    run = kit.run("yard.append_mark", {"mark": "a"})
    kit.advance(60)
    assert (run.status, MARKS) == ("PENDING", [])
    kit.broker.confirms = True
    kit.advance(10)
    assert (run.status, MARKS) == ("SUCCEEDED", ["a"])


def test_a_waiting_run_can_be_cancelled_or_expire(kit: Kit) -> None:
    cancelled = kit.submit("yard.append_mark", {"mark": "a"}, delay_seconds=60)
    kit.cancel(cancelled)
    expired = kit.submit(
        "yard.append_mark",
        {"mark": "b"},
        delay_seconds=120,
        expires_at=START + timedelta(seconds=90),
    )
    kit.advance(hours=1)
    assert (cancelled.status, expired.status, MARKS) == ("CANCELLED", "EXPIRED", [])
    with pytest.raises(RunHasEnded):
        kit.cancel(cancelled)


def test_a_schedule_fires_at_its_times_and_at_no_other() -> None:
    MARKS.clear()
    begin = START + timedelta(minutes=30)
    with open_kit(tasks=[every_hour], start=begin) as kit:
        kit.advance(minutes=29, seconds=59)
        assert kit.runs == []
        kit.advance(seconds=1)
        assert MARKS == ["hourly"]
        kit.advance(hours=3)
        assert len(MARKS) == 4
        starts = [run.row.started_at for run in kit.runs]
    assert starts == [START + timedelta(hours=hour) for hour in (1, 2, 3, 4)]


def test_work_over_a_limit_waits_for_its_turn(kit: Kit) -> None:
    runs = [kit.submit("yard.one_a_minute", {"mark": str(number)}) for number in range(3)]
    kit.work()
    assert sorted(run.status for run in runs).count("SUCCEEDED") == 1
    kit.advance(minutes=10)
    assert [run.status for run in runs] == ["SUCCEEDED"] * 3
    first, second, third = sorted(run.row.started_at for run in runs)
    assert second - first >= timedelta(seconds=59)
    assert third - second >= timedelta(seconds=59)


def test_a_run_tells_what_it_is(kit: Kit) -> None:
    run = kit.run("yard.give_up", {"reason": "why"})
    assert repr(run).startswith("<Run yard.give_up FAILED, attempt 1 of 5, error=")


def test_work_without_an_end_is_told(kit: Kit) -> None:
    kit.submit("yard.submit_itself")
    with pytest.raises(RuntimeError, match="20 deliveries without an end"):
        kit.work(most=20)


def test_settings_are_those_of_the_test_and_of_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TASKYARD_LIMITS__MAX_ATTEMPTS", "7")
    with open_kit(tasks=ALL, settings={"celery": {"lease_seconds": 40}}) as kit:
        assert kit.services.settings.limits.max_attempts == 100
        assert kit.services.settings.celery.lease_seconds == 40


def test_jitter_comes_when_it_is_asked_for() -> None:
    with open_kit(tasks=ALL, start=START, jitter=True) as kit:
        delays = {
            kit.run("yard.fail_first", {"times": 1}).row.scheduled_for - START for _ in range(5)
        }
    assert len(delays) > 1
    assert all(timedelta(seconds=7.5) <= delay <= timedelta(seconds=10) for delay in delays)


async def test_inside_a_running_loop_the_cure_is_told() -> None:
    with pytest.raises(RuntimeError, match="`def` test"), open_kit(tasks=ALL):
        pass


def test_a_function_that_is_no_task_is_named() -> None:
    def plain() -> None:
        """Do nothing."""

    with pytest.raises(TaskDeclarationError, match="plain is no task"), open_kit(tasks=[plain]):
        pass


def test_plugins_are_found_by_manifest_module_and_name() -> None:
    import app.plugins.archive
    from app.plugins.archive.plugin import PLUGIN

    for given in (PLUGIN, app.plugins.archive, "archive"):
        with open_kit(given) as kit:
            assert kit.services.registry.find("archive.expand_zip") is not None
