"""Fire times: what a clock shows, what it shows twice, and what it never shows."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.tasks.schedule_errors import InvalidSchedule
from app.tasks.timetables import (
    Cron,
    Timetable,
    newest_between,
    preview,
    read_timetable,
    upcoming,
)

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
LORD_HOWE, KOLKATA, UTC_NAME = "Australia/Lord_Howe", "Asia/Kolkata", "UTC"
ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def cron(expression: str, zone: str = UTC_NAME) -> Timetable:
    return read_timetable(expression, None, zone, ANCHOR)


def shown(expression: str, zone: str, after: str, count: int) -> list[str]:
    """Return the next fire times as the zone's clock shows them."""
    start = datetime.fromisoformat(f"2026-{after}")
    local = [
        one.astimezone(ZoneInfo(zone)) for one in preview(cron(expression, zone), start, count)
    ]
    return [one.isoformat(timespec="minutes")[5:] for one in local]


# The clock is put forward: 02:00 to 03:00 in Berlin and New York, 02:00 to 02:30 on Lord Howe.


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("30 2 * * *", BERLIN, "03-28T12:00Z", ["03-29T03:00+02:00", "03-30T02:30+02:00"]),
        ("0 3 * * *", BERLIN, "03-28T12:00Z", ["03-29T03:00+02:00", "03-30T03:00+02:00"]),
        # Both times of the gap fall on its end, which fires once.
        ("0,30 2 * * *", BERLIN, "03-28T12:00Z", ["03-29T03:00+02:00", "03-30T02:00+02:00"]),
        ("30 2 * * *", NEW_YORK, "03-07T12:00Z", ["03-08T03:00-04:00", "03-09T02:30-04:00"]),
        ("15 2 * * *", LORD_HOWE, "10-03T00:00Z", ["10-04T02:30+11:00", "10-05T02:15+11:00"]),
        # What goes with the real time does not fire at times that do not exist.
        ("*/30 2 * * *", BERLIN, "03-28T12:00Z", ["03-30T02:00+02:00", "03-30T02:30+02:00"]),
        ("0 * * * *", BERLIN, "03-29T00:30Z", ["03-29T03:00+02:00", "03-29T04:00+02:00"]),
        ("*/20 * * * *", LORD_HOWE, "10-03T15:00Z", ["10-04T01:40+10:30", "10-04T02:40+11:00"]),
        # The half hour must not shift the minutes of the hours after it.
        ("*/10 5 * * *", LORD_HOWE, "10-03T15:00Z", ["10-04T05:00+11:00", "10-04T05:10+11:00"]),
        ("30 2 * * *", KOLKATA, "03-28T12:00Z", ["03-29T02:30+05:30", "03-30T02:30+05:30"]),
    ],
)  # fmt: skip
def test_the_clock_is_put_forward(
    expression: str, zone: str, after: str, expected: list[str]
) -> None:
    assert shown(expression, zone, after, 2) == expected


# The clock is put back: 03:00 to 02:00 in Berlin, 02:00 to 01:00 and 02:00 to 01:30 elsewhere.


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("30 2 * * *", BERLIN, "10-24T12:00Z", ["10-25T02:30+02:00", "10-26T02:30+01:00"]),
        ("30 1 * * *", NEW_YORK, "10-31T12:00Z", ["11-01T01:30-04:00", "11-02T01:30-05:00"]),
        ("45 1 * * *", LORD_HOWE, "04-04T00:00Z", ["04-05T01:45+11:00", "04-06T01:45+10:30"]),
        # Asked in the second hour of that name, the first one has passed.
        ("30 2 * * *", BERLIN, "10-25T01:10Z", ["10-26T02:30+01:00", "10-27T02:30+01:00"]),
        # What goes with the real time fires in both hours.
        ("*/30 2 * * *", BERLIN, "10-25T00:20Z", ["10-25T02:30+02:00", "10-25T02:00+01:00"]),
        ("0 */2 * * *", BERLIN, "10-24T22:30Z", ["10-25T02:00+02:00", "10-25T02:00+01:00"]),
        ("50 * * * *", LORD_HOWE, "04-04T14:00Z", ["04-05T01:50+11:00", "04-05T01:50+10:30"]),
        ("*/10 5 * * *", LORD_HOWE, "04-04T14:00Z", ["04-05T05:00+10:30", "04-05T05:10+10:30"]),
        # Once a year, and the second showing is the next one.
        ("*/50 2 25 10 *", BERLIN, "10-25T00:50Z", ["10-25T02:00+01:00", "10-25T02:50+01:00"]),
    ],
)  # fmt: skip
def test_the_clock_is_put_back(expression: str, zone: str, after: str, expected: list[str]) -> None:
    assert shown(expression, zone, after, 2) == expected


# Against a slow reading of the rules: look at every minute.

_WILD = st.sampled_from(["*", "*/7", "*/15", "*/20", "*/30", "0", "5", "30", "0,30", "10-50/20"])
_HOURS = st.sampled_from(["*", "*/2", "*/3", "0", "1", "2", "3", "1,2", "0-3", "23"])
_ZONES = st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, KOLKATA, UTC_NAME, "Africa/Casablanca"])
# Hours around every change of 2026, and an ordinary day.
_STARTS = st.sampled_from(
    [
        datetime(2026, 3, 7, 20, tzinfo=UTC),
        datetime(2026, 3, 28, 12, tzinfo=UTC),
        datetime(2026, 4, 4, 3, tzinfo=UTC),
        datetime(2026, 7, 1, tzinfo=UTC),
        datetime(2026, 10, 3, 3, tzinfo=UTC),
        datetime(2026, 10, 24, 12, tzinfo=UTC),
        datetime(2026, 10, 31, 20, tzinfo=UTC),
        datetime(2026, 2, 14, 12, tzinfo=UTC),  # Casablanca, for the month of Ramadan.
        datetime(2026, 3, 21, 12, tzinfo=UTC),
    ]
)
_SPAN = timedelta(hours=40)
_LONG_AGO = datetime(1971, 1, 1, tzinfo=UTC)


def field(text: str, value: int, top: int) -> bool:
    for term in text.split(","):
        span, _, step = term.partition("/")
        low, _, high = span.partition("-")
        first = 0 if low == "*" else int(low)
        last = top if low == "*" else int(high or low)
        if first <= value <= last and (value - first) % int(step or 1) == 0:
            return True
    return False


def slow(minute: str, hour: str, zone: ZoneInfo, start: datetime) -> list[datetime]:
    """Return the fire times of the span by looking at each minute of it."""

    def named(face: datetime) -> bool:
        return field(minute, face.minute, 59) and field(hour, face.hour, 23)

    if "*" in (minute[0], hour[0]):
        real = islice(_minutes(start), int(_SPAN / MINUTE))
        return [one for one in real if named(one.astimezone(zone).replace(tzinfo=None))]
    # A day more on both ends: faces are not moments.
    faces = islice(_minutes(start.replace(tzinfo=None) - timedelta(days=1)), 5 * 24 * 60)
    found = {_first_showing(face, zone) for face in faces if named(face)}
    return sorted(one for one in found if start < one <= start + _SPAN)


def _minutes(start: datetime) -> Iterator[datetime]:
    while True:
        start += MINUTE
        yield start


def _first_showing(face: datetime, zone: ZoneInfo) -> datetime:
    while True:
        moment = face.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) == face:
            return moment
        face += MINUTE


@settings(max_examples=100, deadline=None)
@given(minute=_WILD, hour=_HOURS, zone=_ZONES, start=_STARTS, shift=st.integers(0, 16 * 60))
@example(
    minute="*/15", hour="2", zone=BERLIN, start=datetime(2026, 10, 24, 12, tzinfo=UTC), shift=763
)
def test_it_fires_when_a_slow_reading_says_so(
    minute: str, hour: str, zone: str, start: datetime, shift: int
) -> None:
    start += shift * MINUTE
    end = start + _SPAN
    timetable = cron(f"{minute} {hour} * * *", zone)
    found = list(takewhile(lambda one: one <= end, upcoming(timetable, start)))
    assert found == slow(minute, hour, ZoneInfo(zone), start)


@settings(deadline=None)
@given(
    expression=st.sampled_from(
        ["* * * * *", "30 2 * * *", "*/15 2 * * *", "0 0 29 2 *", "15 3 L * *", "0 12 * * MON#5"]
    ),
    zone=_ZONES,
    moment=st.timedeltas(timedelta(0), timedelta(days=80_000)).map(lambda gone: _LONG_AGO + gone),
)
def test_the_next_time_is_later_and_nothing_lies_between(
    expression: str, zone: str, moment: datetime
) -> None:
    timetable = cron(expression, zone)
    found = timetable.next_after(moment)
    assert found > moment
    between = moment + (found - moment) / 2
    assert timetable.next_after(between) == found


# Intervals.


@given(
    seconds=st.floats(1, 1e6),
    away=st.timedeltas(timedelta(0), timedelta(days=4000)),
)
def test_an_interval_keeps_its_beat(seconds: float, away: timedelta) -> None:
    timetable = read_timetable(None, seconds, UTC_NAME, ANCHOR)
    moment = ANCHOR + away
    found = timetable.next_after(moment)
    step = timedelta(seconds=seconds)
    assert moment < found <= moment + step
    assert (found - ANCHOR) % step == timedelta(0)


def test_an_interval_is_real_time_whatever_the_clock_does() -> None:
    timetable = read_timetable(None, 3600, BERLIN, datetime(2026, 10, 25, tzinfo=UTC))
    after = datetime(2026, 10, 25, tzinfo=UTC)
    hours = [one.hour for one in preview(timetable, after, 3)]
    assert hours == [1, 2, 3]


# The newest of a span.


@pytest.mark.parametrize("count", [1, 2, 5, 100])
@pytest.mark.parametrize(
    "timetable",
    [
        cron("*/7 * * * *"),
        cron("30 2 * * *", BERLIN),
        cron("0 0 29 2 *"),
        read_timetable(None, 90.5, UTC_NAME, ANCHOR),
    ],
    ids=["often", "daily", "rarely", "interval"],
)
def test_the_newest_are_those_of_the_whole_list(timetable: Timetable, count: int) -> None:
    end = datetime(2026, 1, 20, 3, 4, tzinfo=UTC)
    step = timetable.next_after(timetable.next_after(ANCHOR)) - timetable.next_after(ANCHOR)
    first = timetable.next_after(end - 12 * step)
    whole = [one for one in preview(timetable, first - MINUTE / 60, 20) if one <= end]
    assert len(whole) > 5
    assert newest_between(timetable, first, end, count) == whole[-count:]


class Counting:
    """Every second, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def next_after(self, moment: datetime) -> datetime:
        self.asked += 1
        return moment.replace(microsecond=0) + timedelta(seconds=1)


def test_a_long_span_is_not_walked_through() -> None:
    counting = Counting()
    end = datetime(2026, 1, 1, tzinfo=UTC)
    found = newest_between(counting, datetime(1990, 1, 1, tzinfo=UTC), end, 10)
    assert found == [end - timedelta(seconds=left) for left in reversed(range(10))]
    assert counting.asked < 5000


# What is refused.


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * *",
        "* * * * * * *",
        "61 * * * *",
        "* 24 * * *",
        "*/0 * * * *",
        "5/ * * * *",
        "-1 * * * *",
        "* * * * FOO",
        "* * * * L",
        "@daily",
        "0 0 30 2 *",
        "0 0 31 4,6 *",
        "0 0 */29 2 MON#5",
        "\N{ARABIC-INDIC DIGIT ONE} * * * *",
        "* * * * \N{SUPERSCRIPT TWO}L",
        "*" * 10_000,
        "1," * 5_000 + "1 * * * *",
    ],
    ids=lambda text: text[:20].encode("ascii", "backslashreplace").decode() or "empty",
)
def test_an_expression_that_means_nothing_is_refused(expression: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        cron(expression)
    (fault,) = caught.value.errors
    assert fault.loc == ("cron",)


@given(st.text("0123456789*/,-#LW MONJAN?", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        timetable = cron(text)
    except InvalidSchedule:
        return
    assert timetable.next_after(ANCHOR) > ANCHOR


@pytest.mark.parametrize(
    "zone",
    [
        "",
        "Mars/Olympus",
        "europe/berlin",
        "America",
        "../../etc/passwd",
        "/etc/localtime",
        "x" * 64,
    ],
)
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        cron("0 0 * * *", zone)
    assert caught.value.errors[0].loc == ("timezone",)


def test_a_near_zone_is_named() -> None:
    with pytest.raises(InvalidSchedule) as caught:
        cron("0 0 * * *", "Europe/Berln")
    assert BERLIN in caught.value.errors[0].msg


@pytest.mark.parametrize("seconds", [0.999, 0, -1, float("nan"), float("inf"), 31_536_001])
def test_an_interval_out_of_range_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        read_timetable(None, seconds, UTC_NAME, ANCHOR)
    assert caught.value.errors[0].loc == ("interval_seconds",)


@pytest.mark.parametrize(("expression", "seconds"), [(None, None), ("* * * * *", 60.0)])
def test_it_is_one_of_the_two(expression: str | None, seconds: float | None) -> None:
    with pytest.raises(InvalidSchedule):
        read_timetable(expression, seconds, UTC_NAME, ANCHOR)


def test_white_space_and_case_mean_nothing() -> None:
    assert cron(" 0  12\t* JAN mon ") == Cron("0 12 * JAN MON", ZoneInfo("UTC"))
