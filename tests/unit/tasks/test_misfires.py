"""Which of the due fire times fire, by policy."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tasks.misfires import DueTime, Misfire, MisfireRules, due_times
from app.tasks.timetables import Interval, read_timetable, upcoming

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
HOURLY = Interval(3600, FIRST)
RULES = MisfireRules(grace_seconds=60, catch_up_limit=3)


def at(hours: float, seconds: float = 0) -> datetime:
    return FIRST + timedelta(hours=hours, seconds=seconds)


@pytest.mark.parametrize("policy", list(Misfire))
@pytest.mark.parametrize("late", [0, 1, 60])
def test_within_the_grace_it_fires_whatever_the_policy(policy: Misfire, late: float) -> None:
    assert due_times(HOURLY, policy, FIRST, at(0, late), RULES) == [DueTime(FIRST)]


def test_skip_fires_none_of_the_missed() -> None:
    due = due_times(HOURLY, Misfire.SKIP, FIRST, at(5, 61), RULES)
    assert due == [DueTime(at(5), fires=False, missed_since=FIRST)]


def test_skip_fires_what_is_punctual_again() -> None:
    due = due_times(HOURLY, Misfire.SKIP, FIRST, at(5, 30), RULES)
    assert due == [DueTime(at(4), fires=False, missed_since=FIRST), DueTime(at(5))]


def test_run_once_fires_once_for_all_missed() -> None:
    due = due_times(HOURLY, Misfire.RUN_ONCE, FIRST, at(5, 61), RULES)
    assert due == [DueTime(at(5), missed_since=FIRST)]


def test_one_missed_time_stands_for_itself() -> None:
    due = due_times(HOURLY, Misfire.RUN_ONCE, FIRST, at(0, 61), RULES)
    assert due == [DueTime(FIRST)]


def test_catch_up_fires_each_missed_one() -> None:
    due = due_times(HOURLY, Misfire.CATCH_UP, FIRST, at(2, 61), RULES)
    assert due == [DueTime(at(hours)) for hours in range(3)]


def test_catch_up_has_a_bound_and_tells_what_it_drops() -> None:
    due = due_times(HOURLY, Misfire.CATCH_UP, FIRST, at(9, 30), RULES)
    assert due == [
        DueTime(at(5), fires=False, missed_since=FIRST),
        *(DueTime(at(hours)) for hours in (6, 7, 8)),
        DueTime(at(9)),
    ]


@given(
    policy=st.sampled_from(Misfire),
    seconds=st.sampled_from([1.0, 7.0, 3600.0, 86_400.0]),
    away=st.integers(0, 1_000_000),
    grace=st.sampled_from([0, 5, 60, 3600]),
)
def test_nothing_is_missed_in_silence(
    policy: Misfire, seconds: float, away: int, grace: int
) -> None:
    timetable = Interval(seconds, FIRST)
    now = at(0, away)
    due = due_times(timetable, policy, FIRST, now, MisfireRules(grace, 20))
    moments = [one.fire_time for one in due]
    assert moments == sorted(set(moments))
    assert timetable.next_after(moments[-1]) > now
    # What no row tells of lies in the span of one that does.
    expected = FIRST
    for one in due:
        assert (one.missed_since or one.fire_time) == expected
        expected = timetable.next_after(one.fire_time)


def test_a_time_that_was_told_is_kept_when_the_zone_has_changed_its_rules() -> None:
    told = datetime(2026, 1, 1, 2, 30, tzinfo=UTC)
    timetable = read_timetable("0 3 * * *", None, "UTC", FIRST)
    due = due_times(timetable, Misfire.SKIP, told, told + timedelta(seconds=5), RULES)
    assert due == [DueTime(told)]
    assert next(upcoming(timetable, told)).hour == 3
