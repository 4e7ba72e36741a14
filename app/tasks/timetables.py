"""When a schedule fires: a cron expression on the clock of a time zone, or a fixed interval.

A timetable is a pure function from one moment to the next. Cronsim reads the expression and walks
over times without a zone; what a zone's clock makes of them is decided here, as Debian's cron does:

- An expression with fixed minutes and hours fires once for each time it names. A time in the gap,
  when the clock is put forward, fires at the first moment after the gap; a time that comes twice,
  when the clock is put back, fires the first time only.
- An expression whose minute or hour begins with `*` goes with the real time: it does not fire at
  times that do not exist and fires at both of those that come twice.
"""

import difflib
import functools
import zoneinfo
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol

from cronsim import CronSim, CronSimError

from app.common.errors import FieldError
from app.tasks.schedule_errors import InvalidSchedule

MAX_CRON_CHARACTERS = 200
MIN_INTERVAL_SECONDS = 1.0
MAX_INTERVAL_SECONDS = 31_536_000.0
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)
_FAULTS = {"Bad day-of-month": "Bad day-of-month: out of range, or no such month has that day"}
# Any day will do: what an expression means does not depend on where the reading starts.
_SOME_DAY = datetime(2024, 1, 1)  # noqa: DTZ001 - a clock's face has no zone


class Timetable(Protocol):
    """The moments at which a schedule fires, in UTC."""

    def next_after(self, moment: datetime) -> datetime:
        """Return the first moment later than the given one; OverflowError when there is none."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Every so many seconds of real time, counted from the anchor."""

    seconds: float
    anchor: datetime

    def next_after(self, moment: datetime) -> datetime:
        """Return the first moment later than the given one."""
        step = timedelta(seconds=self.seconds)
        return self.anchor + ((moment - self.anchor) // step + 1) * step


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of five fields on the clock of a time zone."""

    expression: str
    zone: zoneinfo.ZoneInfo

    def next_after(self, moment: datetime) -> datetime:
        """Return the first moment later than the given one."""
        local = moment.astimezone(self.zone)
        face = local.replace(tzinfo=None, fold=0)
        found = self._first(face, moment)
        back = _put_back(local)
        if back and self._follows_real_time:
            # The clock will show these times a second time, before it shows any later one.
            again = self._first(face - back, moment)
            found = min(found, again)
        return found

    @property
    def _follows_real_time(self) -> bool:
        minute, hour = self.expression.split()[:2]
        return minute.startswith("*") or hour.startswith("*")

    def _first(self, face: datetime, moment: datetime) -> datetime:
        """Return the first later moment at which the clock shows a time after `face`."""
        for shown in CronSim(self.expression, face):
            for instant in self._moments(shown):
                if instant > moment:
                    return instant
        raise OverflowError(self.expression)

    def _moments(self, shown: datetime) -> list[datetime]:
        """Return when the expression fires for a time that the clock shows once, twice or never."""
        first, second = (
            shown.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1)
        )
        if first == second:
            return [first]
        if first < second:
            return [first, second] if self._follows_real_time else [first]
        return [] if self._follows_real_time else [self._end_of_gap(second, first)]

    def _end_of_gap(self, before: datetime, after: datetime) -> datetime:
        """Return the moment between the two at which the zone's offset changes."""
        old = before.astimezone(self.zone).utcoffset()
        while after - before > _SECOND:
            # Changes of offset come at whole seconds.
            middle = (before + (after - before) / 2).replace(microsecond=0)
            if middle.astimezone(self.zone).utcoffset() == old:
                before = middle
            else:
                after = middle
        return after


def read_timetable(
    cron: str | None, interval_seconds: float | None, timezone: str, anchor: datetime
) -> Timetable:
    """Return the timetable; InvalidSchedule has one entry per wrong field.

    `anchor` is the moment from which an interval counts.
    """
    if (cron is None) == (interval_seconds is None):
        raise _invalid("cron", "give either cron or interval_seconds", "one_of_two")
    zone = _read_zone(timezone)
    if interval_seconds is not None:
        if not MIN_INTERVAL_SECONDS <= interval_seconds <= MAX_INTERVAL_SECONDS:
            message = f"must be {MIN_INTERVAL_SECONDS:g} to {MAX_INTERVAL_SECONDS:.0f} seconds"
            raise _invalid("interval_seconds", message, "out_of_range")
        return Interval(interval_seconds, anchor)
    return Cron(_read_cron(cron or ""), zone)


def upcoming(timetable: Timetable, after: datetime) -> Iterator[datetime]:
    """Yield the moments after the given one, in order."""
    moment = after
    while True:
        try:
            moment = timetable.next_after(moment)
        except OverflowError:
            return
        yield moment


def newest_between(
    timetable: Timetable, first: datetime, end: datetime, count: int
) -> list[datetime]:
    """Return at most so many moments of `first <= moment <= end`, the newest, in order.

    `first` is one of the timetable's own moments. What is looked at grows with `count`, not with
    the length of the span: after a year away nobody walks through half a million minutes.
    """
    span = count * _shortest(timetable)
    while True:
        start = max(first - _MICROSECOND, end - span)
        found: deque[datetime] = deque(maxlen=count)
        for moment in upcoming(timetable, start):
            if moment > end:
                break
            found.append(moment)
        if len(found) == count or start < first:
            return list(found)
        span *= 4


def preview(timetable: Timetable, after: datetime, count: int) -> list[datetime]:
    """Return the next moments, in order."""
    return list(islice(upcoming(timetable, after), count))


def _shortest(timetable: Timetable) -> timedelta:
    return timedelta(seconds=timetable.seconds) if isinstance(timetable, Interval) else _MINUTE


def _put_back(local: datetime) -> timedelta | None:
    """Return by how much the clock is about to be put back, if it shows this time once more."""
    now, later = (local.replace(fold=fold).utcoffset() for fold in (0, 1))
    if local.fold or now is None or later is None or later >= now:
        return None
    return now - later


def _read_zone(name: str) -> zoneinfo.ZoneInfo:
    if name not in _zones():
        near = difflib.get_close_matches(name[:100], _zones(), n=3, cutoff=0.6)
        advice = f"; near ones: {', '.join(near)}" if near else ", like Europe/Berlin or UTC"
        raise _invalid("timezone", f"is no time zone of the IANA database{advice}", "unknown_zone")
    return zoneinfo.ZoneInfo(name)


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _read_cron(text: str) -> str:
    if len(text) > MAX_CRON_CHARACTERS or not text.isascii():
        raise _invalid("cron", f"must be at most {MAX_CRON_CHARACTERS} ASCII characters", "cron")
    expression = " ".join(text.upper().split())
    fields = len(expression.split())
    if fields != 5:
        raise _invalid(
            "cron",
            f"has {fields} fields; there are five: minute hour day month weekday",
            "cron_fields",
        )
    try:
        _check_fires(expression)
    except CronSimError as error:
        raise _invalid("cron", _FAULTS.get(str(error), f"{error}: out of range"), "cron") from None
    except StopIteration:
        raise _invalid("cron", "never fires: no such day exists", "cron_never") from None
    return expression


@functools.lru_cache(maxsize=4096)
def _check_fires(expression: str) -> None:
    next(CronSim(expression, _SOME_DAY))


def _invalid(field: str, message: str, kind: str) -> InvalidSchedule:
    return InvalidSchedule(
        "The schedule is not valid.", errors=[FieldError((field,), message, kind)]
    )
