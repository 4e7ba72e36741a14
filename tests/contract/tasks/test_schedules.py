"""The life of a schedule: made, changed, paused, removed, run by hand; and those of code."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from app import Schedule, register_task
from app.common.errors import Forbidden
from app.tasks.audit import audit_of
from app.tasks.errors import InvalidParams, ParamsTooLarge, TaskDeclarationError, TaskNotRegistered
from app.tasks.firing import Firing
from app.tasks.misfires import Misfire, Overlap
from app.tasks.registry import spec_of
from app.tasks.schedule_errors import (
    InvalidSchedule,
    ScheduleAlreadyExists,
    ScheduleHasChanged,
    ScheduleNotFound,
    ScheduleOfCode,
)
from app.tasks.schedule_queries import ScheduleFilters
from app.tasks.schedules import ScheduleWish
from app.tasks.sweeper import Sweeper
from tests.contract.tasks.test_firing import fire, firings, make_due, now, read, runs, tick
from tests.contract.tasks.test_sweeper_more import then
from tests.harness import Installation, Somebody

Install = Callable[..., Installation]
ME = Somebody()
FOREIGNER = Somebody("foreigner", tenant="elsewhere")


@register_task("test.guarded", required_scope="test:secret")
async def guarded() -> None:
    """Ask for a scope of its own."""


def make(yard: Installation, caller: Somebody = ME, **wish: Any) -> Any:
    if "cron" not in wish:
        wish.setdefault("interval_seconds", 3600.0)
    whole = ScheduleWish(**{"name": "a schedule", "task": "test.tick", **wish})
    return yard.run(yard.services.schedules.create(whole, caller))


def change(yard: Installation, schedule_id: str, caller: Somebody = ME, **changes: Any) -> Any:
    return yard.run(yard.services.schedules.change(schedule_id, changes, caller))


def run_now(yard: Installation, schedule_id: str, caller: Somebody = ME) -> str:
    async def accept() -> str:
        accepted = await yard.services.schedules.run_now(schedule_id, caller)
        await yard.services.outbox.close()
        return accepted.task_id

    return yard.run(accept())


# Made.


def test_it_is_kept_as_it_was_wished_for(install: Install) -> None:
    yard = install(tick)
    before = now(yard)
    row = make(
        yard,
        params={"number": 3},
        cron="30 2 * * *",
        timezone="Europe/Berlin",
        misfire=Misfire.CATCH_UP,
        overlap=Overlap.SKIP,
    )
    kept = read(yard, row.id)
    assert kept == row
    assert (kept.task, kept.params, kept.cron) == ("test.tick", {"number": 3}, "30 2 * * *")
    assert (kept.misfire, kept.overlap, kept.kind) == ("catch_up", "skip", "api")
    assert (kept.created_by, kept.tenant, kept.is_active) == ("somebody", None, True)
    assert before < kept.next_fire_at <= before + timedelta(hours=25)
    assert kept.next_fire_at.minute == 30


def test_an_interval_counts_from_its_birth(install: Install) -> None:
    yard = install(tick)
    row = make(yard, interval_seconds=90.5)
    assert row.next_fire_at - row.anchor_at == timedelta(seconds=90.5)
    assert abs(row.anchor_at - now(yard)) < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"cron": "* * * *"}, InvalidSchedule),
        ({"cron": "0 0 30 2 *"}, InvalidSchedule),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, InvalidSchedule),
        ({"cron": "* * * * *", "interval_seconds": 5.0}, InvalidSchedule),
        ({"interval_seconds": 0.5}, InvalidSchedule),
        ({"interval_seconds": None}, InvalidSchedule),
        ({"name": " "}, InvalidSchedule),
        ({"name": "two\nlines"}, InvalidSchedule),
        ({"name": "code:test.tick"}, InvalidSchedule),
        ({"name": "x" * 201}, InvalidSchedule),
        ({"task": "test.tock"}, TaskNotRegistered),
        ({"params": {"number": "three"}}, InvalidParams),
        ({"params": {"nomber": 3}}, InvalidParams),
        ({"params": {"number": "x" * 300_000}}, ParamsTooLarge),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_fire_is_refused(
    wish: dict[str, Any], error: type[Exception], install: Install
) -> None:
    yard = install(tick)
    with pytest.raises(error):
        make(yard, **wish)
    assert yard.sql("SELECT id FROM schedules") == []


def test_the_task_s_own_scope_is_needed(install: Install) -> None:
    yard = install(guarded)
    some = Somebody(scopes=frozenset({"schedules:manage"}))
    with pytest.raises(Forbidden):
        make(yard, some, task="test.guarded")
    row = make(yard, task="test.guarded")
    with pytest.raises(Forbidden):
        run_now(yard, row.id, some)
    assert runs(yard) == []


def test_names_are_unique_within_a_tenant(install: Install) -> None:
    yard = install(tick)
    make(yard)
    make(yard, FOREIGNER)
    for caller in (ME, FOREIGNER):
        with pytest.raises(ScheduleAlreadyExists):
            make(yard, caller)
    other = make(yard, name="another")
    with pytest.raises(ScheduleAlreadyExists):
        change(yard, other.id, name="a schedule")


# Seen.


def test_nobody_sees_or_touches_another_tenant_s(install: Install) -> None:
    yard = install(tick)
    row = make(yard)
    schedules = yard.services.schedules
    for attempt in (
        lambda: schedules.get(row.id, FOREIGNER),
        lambda: schedules.change(row.id, {"is_active": False}, FOREIGNER),
        lambda: schedules.delete(row.id, FOREIGNER),
        lambda: schedules.run_now(row.id, FOREIGNER),
        lambda: schedules.preview(row.id, 5, FOREIGNER),
        lambda: schedules.firings(row.id, 5, None, FOREIGNER),
        lambda: schedules.get("no id", ME),
    ):
        with pytest.raises(ScheduleNotFound):
            yard.run(attempt())
    assert yard.run(schedules.list(ScheduleFilters(), 50, None, FOREIGNER)).items == []
    assert read(yard, row.id) == row


def test_the_list_is_filtered_and_paged(install: Install) -> None:
    yard = install(tick, guarded)
    ids = [make(yard, name=f"schedule {number}").id for number in range(5)]
    other = make(yard, name="guarded", task="test.guarded", is_active=False)
    schedules = yard.services.schedules

    def listed(limit: int = 50, cursor: str | None = None, **filters: Any) -> Any:
        return yard.run(schedules.list(ScheduleFilters(**filters), limit, cursor, ME))

    first = listed(4)
    rest = listed(4, first.next_cursor)
    assert [row.id for row in (*first.items, *rest.items)] == [other.id, *reversed(ids)]
    assert rest.next_cursor is None
    assert [row.id for row in listed(task="test.guarded").items] == [other.id]
    assert [row.id for row in listed(is_active=False).items] == [other.id]
    assert [row.id for row in listed(name="schedule 3").items] == [ids[3]]
    assert listed(kind="code").items == []


def test_the_preview_is_what_will_happen(install: Install) -> None:
    yard = install(tick)
    row = make(yard, cron="30 2 * * *", timezone="Europe/Berlin")
    _, moments = yard.run(yard.services.schedules.preview(row.id, 20, ME))
    assert len(moments) == 20
    assert moments[0] == row.next_fire_at
    assert moments == sorted(set(moments))


def test_the_history_is_paged(install: Install) -> None:
    yard = install(tick)
    row = make(yard)
    for _ in range(5):
        make_due(yard, 0.01)
        fire(yard)
    schedules = yard.services.schedules
    first = yard.run(schedules.firings(row.id, 3, None, ME))
    rest = yard.run(schedules.firings(row.id, 3, int(first.next_cursor or 0), ME))
    times = [one.fire_time for one in (*first.items, *rest.items)]
    assert len(times) == 5
    assert times == sorted(times, reverse=True)
    assert rest.next_cursor is None


# Changed.


def test_a_pause_stops_it_and_what_it_misses_is_not_made_up_for(install: Install) -> None:
    yard = install(tick)
    row = make(yard, misfire=Misfire.CATCH_UP)
    make_due(yard, 3 * 3600)
    paused = change(yard, row.id, is_active=False)
    assert (paused.is_active, paused.next_fire_at) == (False, None)
    assert fire(yard) == 0
    resumed = change(yard, row.id, is_active=True)
    assert resumed.next_fire_at > now(yard)
    assert fire(yard) == 0
    # It keeps its beat.
    step = timedelta(hours=1)
    assert (resumed.next_fire_at - resumed.anchor_at) % step == timedelta(0)


def test_a_new_timing_counts_from_now_and_takes_the_old_one_s_place(install: Install) -> None:
    yard = install(tick)
    row = make(yard)
    daily = change(yard, row.id, cron="30 2 * * *")
    assert (daily.cron, daily.interval_seconds) == ("30 2 * * *", None)
    assert (daily.next_fire_at.hour, daily.next_fire_at.minute) == (2, 30)
    elsewhere = change(yard, row.id, timezone="Asia/Kolkata")
    assert (elsewhere.next_fire_at.hour, elsewhere.next_fire_at.minute) == (21, 0)
    often = change(yard, row.id, interval_seconds=60.0)
    assert (often.cron, often.interval_seconds) == (None, 60.0)
    assert often.next_fire_at - often.anchor_at == timedelta(seconds=60)
    assert often.anchor_at > row.anchor_at


def test_other_changes_leave_the_times_alone(install: Install) -> None:
    yard = install(tick)
    row = make(yard)
    changed = change(
        yard, row.id, name="renamed", params={"number": 5}, overlap="skip", misfire="skip"
    )
    assert (changed.name, changed.params) == ("renamed", {"number": 5})
    assert (changed.overlap, changed.misfire) == ("skip", "skip")
    assert (changed.next_fire_at, changed.anchor_at) == (row.next_fire_at, row.anchor_at)
    assert changed.updated_at > row.updated_at


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"cron": "61 * * * *"}, InvalidSchedule),
        ({"interval_seconds": None}, InvalidSchedule),
        ({"timezone": "Mars/Olympus"}, InvalidSchedule),
        ({"name": ""}, InvalidSchedule),
        ({"task": "test.tock"}, TaskNotRegistered),
        ({"params": {"number": "five"}}, InvalidParams),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_change_is_checked_as_a_new_one_is(
    changes: dict[str, Any], error: type[Exception], install: Install
) -> None:
    yard = install(tick)
    row = make(yard)
    with pytest.raises(error):
        change(yard, row.id, **changes)
    assert read(yard, row.id) == row


def test_who_looked_too_early_is_told(install: Install) -> None:
    yard = install(tick)
    row = make(yard)
    schedules = yard.services.schedules

    def rename(name: str) -> Any:
        seen = schedules.change(row.id, {"name": name}, ME, unless_changed_since=row.updated_at)
        return yard.run(seen)

    assert rename("first").name == "first"
    with pytest.raises(ScheduleHasChanged):
        rename("second")
    assert read(yard, row.id).name == "first"


def test_firing_is_no_change(install: Install) -> None:
    yard = install(tick)
    row = make(yard)
    make_due(yard)
    fire(yard)
    assert read(yard, row.id).updated_at == row.updated_at


def test_a_deleted_one_takes_its_history_and_leaves_its_runs(install: Install) -> None:
    yard = install(tick)
    row = make(yard)
    make_due(yard)
    fire(yard)
    yard.run(yard.services.schedules.delete(row.id, ME))
    assert yard.sql("SELECT id FROM schedule_firings") == []
    (run,) = runs(yard)
    yard.deliver(str(run.id))
    assert yard.row(str(run.id)).status == "SUCCEEDED"
    with pytest.raises(ScheduleNotFound):
        read(yard, row.id)


def test_each_change_is_in_the_audit_log(install: Install) -> None:
    yard = install(tick)
    row = make(yard, params={"number": 42})
    change(yard, row.id, is_active=False, params={"number": 43})
    run_id = run_now(yard, row.id)
    yard.run(yard.services.schedules.delete(row.id, ME))
    entries = yard.run(audit_of(yard.services.databases, "schedule", row.id))
    about = {"name": "a schedule", "task": "test.tick"}
    assert [(entry.action, entry.actor, entry.detail) for entry in entries] == [
        ("schedule.created", "somebody", about),
        ("schedule.changed", "somebody", {**about, "changed": ["is_active", "params"]}),
        ("schedule.run", "somebody", {"run_id": run_id}),
        ("schedule.deleted", "somebody", about),
    ]


# Run by hand.


def test_run_now_does_not_wait_for_anything(install: Install) -> None:
    yard = install(tick)
    row = make(yard, params={"number": 5}, overlap=Overlap.SKIP, is_active=False)
    ids = [run_now(yard, row.id) for _ in range(3)]
    assert [wakeup.run_id for wakeup in yard.transport.sent] == ids
    assert {str(run.schedule_id) for run in runs(yard)} == {row.id}
    yard.deliver(ids[0])
    assert yard.row(ids[0]).result == 5
    told = firings(yard, row.id)
    assert [(one.trigger, one.outcome, one.run_id) for one in told] == [
        ("manual", "fired", run_id) for run_id in ids
    ]
    kept = read(yard, row.id)
    assert (kept.last_run_id, kept.next_fire_at) == (ids[-1], None)


def test_run_now_takes_no_fire_time_away(install: Install) -> None:
    yard = install(tick)
    row = make(yard)
    moment = make_due(yard)
    run_now(yard, row.id)
    manual = "UPDATE schedule_firings SET fire_time = :then"
    yard.sql(manual, then=moment.strftime("%Y-%m-%d %H:%M:%S.%f") if yard.is_sqlite else moment)
    assert fire(yard) == 1
    assert [one.trigger for one in firings(yard, row.id)] == ["manual", "schedule"]


def test_a_schedule_whose_task_is_gone_cannot_be_run(install: Install) -> None:
    row = make(install(tick, guarded), task="test.guarded")
    with pytest.raises(TaskNotRegistered):
        run_now(install(tick), row.id)


# Retention.


def test_old_history_goes(install: Install) -> None:
    yard = install(tick)
    row = make(yard)
    for _ in range(2):
        make_due(yard, 0.01)
        fire(yard)
    old = firings(yard, row.id)[0]
    yard.sql(
        "UPDATE schedule_firings SET fired_at = :then WHERE id = :id", then=then(yard), id=old.id
    )
    yard.run(Sweeper(yard.services).sweep())
    assert [one.id > old.id for one in firings(yard, row.id)] == [True]


# Declared in code.


def begin(yard: Installation) -> dict[str, Any]:
    """Do what a beat does when it starts; return the schedules of code by name."""
    yard.run(Firing(yard.services).begin())
    page = yard.run(yard.services.schedules.list(ScheduleFilters(kind="code"), 50, None, ME))
    return {row.name: row for row in page.items}


def declared(schedule: Any) -> Any:
    @register_task("test.declared", schedule=schedule)
    async def task(number: int = 0) -> int:
        """Return the number."""
        return number

    return task


def test_code_s_schedules_are_made_once(install: Install) -> None:
    yard = install(declared("*/5 * * * *"), tick)
    (row,) = begin(yard).values()
    assert (row.name, row.task, row.cron) == ("code:test.declared", "test.declared", "*/5 * * * *")
    assert (row.kind, row.created_by, row.misfire) == ("code", "plugin:test", "run_once")
    assert begin(yard) == {row.name: row}
    make_due(yard)
    assert fire(yard) == 1


def test_a_task_may_have_several(install: Install) -> None:
    day = Schedule(name="day", interval_seconds=60, params={"number": 1})
    night = Schedule(name="night", cron="0 2 * * *", timezone="Europe/Berlin", overlap="skip")
    found = begin(install(declared([day, night])))
    assert set(found) == {"code:test.declared:day", "code:test.declared:night"}
    assert found["code:test.declared:day"].params == {"number": 1}
    assert found["code:test.declared:night"].overlap == "skip"


def test_it_follows_the_code_and_a_pause_survives(install: Install) -> None:
    (row,) = begin(install(declared("*/5 * * * *"))).values()
    yard = install(declared(Schedule(cron="30 2 * * *", params={"number": 4})))
    change(yard, row.id, is_active=False)
    (followed,) = begin(yard).values()
    assert (followed.id, followed.cron, followed.params) == (row.id, "30 2 * * *", {"number": 4})
    assert (followed.is_active, followed.next_fire_at) == (False, None)
    assert change(yard, row.id, is_active=True).next_fire_at.minute == 30
    assert begin(yard)[row.name].is_active


def test_it_goes_when_the_code_drops_it_and_nobody_else_s_does(install: Install) -> None:
    yard = install(declared("*/5 * * * *"), tick)
    begin(yard)
    own = make(yard)
    assert begin(install(tick)) == {}
    assert read(yard, own.id) == own


def test_two_beats_may_start_at_once(install: Install) -> None:
    yard = install(declared("*/5 * * * *"))

    async def both() -> None:
        await asyncio.gather(*(Firing(yard.services).begin() for _ in range(4)))

    yard.run(both())
    assert len(begin(yard)) == 1


def test_it_is_changed_in_the_code_alone(install: Install) -> None:
    yard = install(declared("*/5 * * * *"))
    (row,) = begin(yard).values()
    for changes in ({"cron": "0 0 * * *"}, {"name": "mine"}, {"is_active": False, "params": {}}):
        with pytest.raises(ScheduleOfCode) as caught:
            change(yard, row.id, **changes)
        assert "test.declared" in str(caught.value.hint)
    with pytest.raises(ScheduleOfCode):
        yard.run(yard.services.schedules.delete(row.id, ME))
    assert read(yard, row.id) == row
    assert yard.row(run_now(yard, row.id)).task == "test.declared"


def test_parameters_that_the_function_does_not_take_stop_the_start() -> None:
    with pytest.raises(TaskDeclarationError, match=r"params\.number"):
        spec_of(declared(Schedule(interval_seconds=5, params={"number": "four"})), "test")


@pytest.mark.parametrize(
    "schedule",
    [
        "* * * *",
        5,
        None,
        [Schedule(cron="0 0 * * *"), Schedule(cron="1 1 * * *")],
        ["0 0 * * *", object()],
    ],
    ids=["wrong cron", "a number", "None", "two without a name", "an object"],
)
def test_a_wrong_declaration_stops_the_start(schedule: object) -> None:
    with pytest.raises(TaskDeclarationError):
        declared(schedule)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cron": "0 0 * * *", "interval_seconds": 5},
        {"cron": "0 0 30 2 *"},
        {"cron": 5},
        {"interval_seconds": "5"},
        {"interval_seconds": 5, "timezone": "Mars/Olympus"},
        {"interval_seconds": 5, "misfire": "sometimes"},
        {"interval_seconds": 5, "overlap": "never"},
        {"interval_seconds": 5, "name": ""},
    ],
    ids=str,
)
def test_a_wrong_schedule_is_told_at_once(fields: dict[str, Any]) -> None:
    with pytest.raises(TaskDeclarationError):
        Schedule(**fields)
