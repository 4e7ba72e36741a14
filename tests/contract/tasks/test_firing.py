"""Firing: each due fire time becomes one run, whatever dies, doubles or is late."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from app import register_task
from app.common.ids import new_id
from app.config.settings import APPLICATION_BIND
from app.tasks.firing import Firing
from app.tasks.misfires import Misfire, Overlap
from app.tasks.schedule_models import StoredSchedule
from app.tasks.schedules import ScheduleWish
from tests.harness import Installation, Somebody

Install = Callable[..., Installation]
HOUR = 3600.0


@register_task("test.tick")
async def tick(number: int = 0) -> int:
    """Return the number."""
    return number


@register_task("test.retired")
async def retired() -> None:
    """Be there today."""


def schedule(yard: Installation, **wish: Any) -> str:
    """Make an hourly schedule, or what is wished for, and return its id."""
    if "cron" not in wish:
        wish.setdefault("interval_seconds", HOUR)
    whole = ScheduleWish(**{"name": "a schedule", "task": "test.tick", **wish})
    return str(yard.run(yard.services.schedules.create(whole, Somebody())).id)


def read(yard: Installation, schedule_id: str) -> Any:
    return yard.run(yard.services.schedules.get(schedule_id, Somebody()))


def firings(yard: Installation, schedule_id: str) -> list[Any]:
    """Return what became of the fire times, oldest first."""
    page = yard.run(yard.services.schedules.firings(schedule_id, 200, None, Somebody()))
    return list(reversed(page.items))


def outcomes(yard: Installation, schedule_id: str) -> list[str]:
    return [row.outcome for row in firings(yard, schedule_id)]


def runs(yard: Installation) -> list[Any]:
    return yard.sql("SELECT id, status, schedule_id, created_by, tenant FROM task_runs ORDER BY id")


def now(yard: Installation) -> datetime:
    clock = "strftime('%Y-%m-%d %H:%M:%f', 'now')" if yard.is_sqlite else "statement_timestamp()"
    (row,) = yard.sql(f"SELECT {clock}")
    if yard.is_sqlite:
        return datetime.fromisoformat(row[0]).replace(tzinfo=UTC)
    moment: datetime = row[0]
    return moment


def text(yard: Installation, moment: datetime) -> Any:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f") if yard.is_sqlite else moment


def make_due(yard: Installation, seconds_ago: float = 1.0) -> datetime:
    """Put every active schedule's next fire time into the past; an interval counts from there."""
    moment = now(yard) - timedelta(seconds=seconds_ago)
    yard.sql(
        "UPDATE schedules SET next_fire_at = :then, anchor_at = :then"
        " WHERE next_fire_at IS NOT NULL",
        then=text(yard, moment),
    )
    return moment


def fire(yard: Installation) -> int:
    return yard.run(Firing(yard.services).fire_due())


# The run.


def test_a_due_schedule_makes_a_run_that_knows_it(install: Install) -> None:
    yard = install(tick)
    schedule_id = schedule(yard, params={"number": 7})
    moment = make_due(yard)
    assert fire(yard) == 1
    (run,) = runs(yard)
    assert (run.status, run.created_by) == ("PENDING", f"schedule:{schedule_id}")
    assert str(run.schedule_id) == schedule_id
    assert [wakeup.run_id for wakeup in yard.transport.sent] == [str(run.id)]
    yard.deliver(str(run.id))
    assert yard.row(str(run.id)).result == 7
    assert yard.events(str(run.id))[0] == (None, "PENDING")
    (firing,) = firings(yard, schedule_id)
    assert (firing.outcome, firing.trigger, firing.run_id) == ("fired", "schedule", str(run.id))
    row = read(yard, schedule_id)
    assert firing.fire_time == row.last_fire_at
    assert abs(row.last_fire_at - moment) < timedelta(milliseconds=1)
    assert row.last_run_id == str(run.id)


def test_the_next_time_follows_from_the_last_one(install: Install) -> None:
    yard = install(tick)
    schedule_id = schedule(yard)
    make_due(yard, 20)
    fire(yard)
    row = read(yard, schedule_id)
    assert row.next_fire_at - row.last_fire_at == timedelta(hours=1)


def test_what_is_not_due_or_paused_does_not_fire(install: Install) -> None:
    yard = install(tick)
    schedule(yard)
    schedule(yard, name="another", is_active=False)
    assert fire(yard) == 0
    assert runs(yard) == []


def test_a_run_belongs_to_the_tenant_of_its_schedule(install: Install) -> None:
    yard = install(tick)
    wish = ScheduleWish(name="theirs", task="test.tick", interval_seconds=HOUR)
    foreigner = Somebody("foreigner", tenant="elsewhere")
    yard.run(yard.services.schedules.create(wish, foreigner))
    make_due(yard)
    fire(yard)
    assert [run.tenant for run in runs(yard)] == ["elsewhere"]


def test_many_fire_in_one_round(install: Install) -> None:
    yard = install(tick)
    count = 450
    copy_schedule(yard, schedule(yard), count)
    make_due(yard)
    assert fire(yard) == count + 1
    assert len({str(run.schedule_id) for run in runs(yard)}) == count + 1
    assert len(yard.transport.sent) == count + 1
    assert fire(yard) == 0


def copy_schedule(yard: Installation, schedule_id: str, count: int) -> None:
    fields = read(yard, schedule_id)._asdict()
    rows = [{**fields, "id": new_id(), "name": f"copy {number}"} for number in range(count)]
    with yard.services.databases.sync_begin(APPLICATION_BIND) as connection:
        connection.execute(insert(StoredSchedule), rows)


# Never twice.


def test_two_beats_at_once_fire_once(install: Install) -> None:
    yard = install(tick)
    for number in range(20):
        schedule(yard, name=f"schedule {number}")
    make_due(yard)

    async def both() -> list[int]:
        beats = [Firing(yard.services) for _ in range(4)]
        return list(await asyncio.gather(*(beat.fire_due() for beat in beats)))

    assert sum(yard.run(both())) == 20
    assert len(runs(yard)) == 20


def test_a_fire_time_that_has_its_row_makes_no_second_run(install: Install) -> None:
    yard = install(tick)
    schedule_id = schedule(yard)
    moment = make_due(yard, 20)
    fire(yard)
    # As if the table of schedules had been taken back to an older state.
    yard.sql("UPDATE schedules SET next_fire_at = :then", then=text(yard, moment))
    assert fire(yard) == 0
    assert len(runs(yard)) == 1
    assert read(yard, schedule_id).last_run_id == str(runs(yard)[0].id)
    assert read(yard, schedule_id).next_fire_at > now(yard)


def test_a_beat_that_dies_before_its_commit_has_done_nothing(install: Install) -> None:
    yard = install(tick)
    schedule_id = schedule(yard)
    make_due(yard)

    class Dying(Firing):
        async def _write(self, *arguments: Any) -> Any:
            await super()._write(*arguments)
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        yard.run(Dying(yard.services).fire_due())
    assert (runs(yard), firings(yard, schedule_id)) == ([], [])
    assert fire(yard) == 1


def test_a_run_waits_in_its_row_while_the_broker_is_away(install: Install) -> None:
    yard = install(tick)
    for name in ("one", "two"):
        schedule(yard, name=name)
    make_due(yard)
    yard.transport.confirms = False
    assert fire(yard) == 2
    assert yard.sql("SELECT count(*) FROM task_runs WHERE published_at IS NULL")[0][0] == 2


# Misfires.


@pytest.mark.parametrize(
    ("policy", "expected", "made"),
    [
        (Misfire.SKIP, ["missed", "fired"], 1),
        (Misfire.RUN_ONCE, ["fired", "fired"], 2),
        (Misfire.CATCH_UP, ["fired"] * 4, 4),
    ],
)
def test_three_hours_away(
    policy: Misfire, expected: Sequence[str], made: int, install: Install
) -> None:
    yard = install(tick)
    schedule_id = schedule(yard, misfire=policy)
    moment = make_due(yard, 3 * HOUR + 10)
    assert fire(yard) == made
    assert outcomes(yard, schedule_id) == expected
    first = firings(yard, schedule_id)[0]
    since = first.missed_since or first.fire_time
    assert abs(since - moment) < timedelta(milliseconds=1)
    assert fire(yard) == 0


def test_a_long_absence_is_caught_up_within_bounds(install: Install) -> None:
    yard = install(tick)
    schedule_id = schedule(yard, misfire=Misfire.CATCH_UP)
    make_due(yard, 1000 * HOUR)
    limit = yard.services.settings.schedules.catch_up_limit
    # The newest of the missed ones, and the one of this hour.
    assert fire(yard) == limit + 1
    dropped, *_ = firings(yard, schedule_id)
    assert dropped.outcome == "missed"
    assert dropped.fire_time - dropped.missed_since == timedelta(hours=1000 - limit - 1)


# Overlaps.


def test_skip_makes_no_run_beside_one_that_has_not_ended(install: Install) -> None:
    yard = install(tick)
    schedule_id = schedule(yard, overlap=Overlap.SKIP)
    make_due(yard)
    fire(yard)
    (first,) = runs(yard)
    make_due(yard, 0.5)
    assert fire(yard) == 0
    assert outcomes(yard, schedule_id) == ["fired", "skipped"]
    assert str(first.id) in firings(yard, schedule_id)[1].reason
    yard.deliver(str(first.id))
    make_due(yard, 0.2)
    assert fire(yard) == 1
    assert outcomes(yard, schedule_id) == ["fired", "skipped", "fired"]


def test_skip_counts_the_runs_of_its_own_round(install: Install) -> None:
    yard = install(tick)
    schedule_id = schedule(yard, overlap=Overlap.SKIP, misfire=Misfire.CATCH_UP)
    make_due(yard, 3 * HOUR + 10)
    assert fire(yard) == 1
    assert outcomes(yard, schedule_id) == ["fired", "skipped", "skipped", "skipped"]


def test_another_schedules_run_is_no_overlap(install: Install) -> None:
    yard = install(tick)
    for name in ("one", "two"):
        schedule(yard, name=name, overlap=Overlap.SKIP)
    make_due(yard)
    assert fire(yard) == 2


def test_cancel_previous_puts_the_new_run_in_the_old_ones_place(install: Install) -> None:
    yard = install(tick)
    schedule_id = schedule(yard, overlap=Overlap.CANCEL_PREVIOUS)
    make_due(yard)
    fire(yard)
    make_due(yard, 0.5)
    assert fire(yard) == 1
    assert [run.status for run in runs(yard)] == ["CANCELLED", "PENDING"]
    make_due(yard, 3 * HOUR + 10)
    yard.sql("UPDATE schedules SET misfire = 'catch_up'")
    assert fire(yard) == 1
    assert [run.status for run in runs(yard)] == ["CANCELLED", "CANCELLED", "PENDING"]
    assert outcomes(yard, schedule_id)[2:] == ["skipped", "skipped", "skipped", "fired"]


# A task that is unique for a time.


@register_task("test.unique", unique_for_seconds=3600)
async def unique(number: int = 0) -> int:
    """Return the number, once an hour."""
    return number


def test_an_equal_run_stands_for_that_of_a_fire_time(install: Install) -> None:
    yard = install(unique, tick)
    equal = [schedule(yard, name=name, task="test.unique") for name in ("one", "two")]
    other = schedule(yard, name="other", task="test.unique", params={"number": 1})
    plain = schedule(yard, name="plain")
    make_due(yard)
    assert fire(yard) == 3
    told = [firings(yard, one)[0] for one in equal]
    assert sorted(one.outcome for one in told) == ["fired", "skipped"]
    assert told[0].run_id == told[1].run_id
    assert outcomes(yard, other) == outcomes(yard, plain) == ["fired"]
    assert len(runs(yard)) == len(yard.transport.sent) == 3
    make_due(yard, 0.5)
    assert fire(yard) == 1
    assert [row.task for row in yard.sql("SELECT task FROM task_runs ORDER BY id")][3:] == [
        "test.tick"
    ]


# What cannot fire.


def test_a_task_that_is_gone_is_told_and_stops_nothing(install: Install) -> None:
    before = install(tick, retired)
    broken = schedule(before, name="broken", task="test.retired")
    whole = schedule(before, name="whole")
    yard = install(tick)
    make_due(yard)
    assert fire(yard) == 1
    assert outcomes(yard, whole) == ["fired"]
    assert outcomes(yard, broken) == ["failed"]
    row = read(yard, broken)
    assert row.error["type"] == "TASK_NOT_REGISTERED"
    assert row.next_fire_at > now(yard)
    make_due(before, 0.5)
    assert fire(before) == 2
    assert read(before, broken).error is None


def test_parameters_are_checked_at_the_fire_time_too(install: Install) -> None:
    yard = install(tick)
    schedule_id = schedule(yard)
    yard.sql("UPDATE schedules SET params = :params", params='{"number": "no number"}')
    make_due(yard)
    assert fire(yard) == 0
    assert outcomes(yard, schedule_id) == ["failed"]
    error = read(yard, schedule_id).error
    assert error["type"] == "INVALID_PARAMS"
    assert "params.number" in error["message"]


def test_a_zone_that_no_machine_knows_stops_only_its_own_schedule(install: Install) -> None:
    yard = install(tick)
    broken = schedule(yard, name="broken", cron="0 0 * * *")
    schedule(yard, name="whole")
    make_due(yard)
    yard.sql("UPDATE schedules SET timezone = 'Mars/Olympus' WHERE name = 'broken'")
    assert fire(yard) == 1
    row = read(yard, broken)
    assert row.next_fire_at is None
    assert "Mars" not in row.error["message"]
    assert row.error["type"] == "INVALID_SCHEDULE"
    assert outcomes(yard, broken) == ["failed"]
    assert fire(yard) == 0
