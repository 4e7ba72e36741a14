"""What becomes of the fire times that are due: which ones fire, and which ones were missed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.tasks.timetables import Timetable, newest_between, upcoming

_MICROSECOND = timedelta(microseconds=1)


class Misfire(StrEnum):
    """What happens to fire times that passed while nobody could fire them."""

    SKIP = "skip"
    RUN_ONCE = "run_once"
    CATCH_UP = "catch_up"


class Overlap(StrEnum):
    """What happens at a fire time while an earlier run of the schedule has not ended."""

    ALLOW = "allow"
    SKIP = "skip"
    CANCEL_PREVIOUS = "cancel_previous"


@dataclass(frozen=True, slots=True)
class DueTime:
    """A fire time that is due; `missed_since` is the first of those that it stands for besides.

    One that does not fire was missed for good.
    """

    fire_time: datetime
    fires: bool = True
    missed_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class MisfireRules:
    """How late a fire time may be without counting as missed, and how many missed ones of a
    schedule are caught up at most: the newest.
    """

    grace_seconds: float
    catch_up_limit: int


def due_times(
    timetable: Timetable, policy: Misfire, first: datetime, now: datetime, rules: MisfireRules
) -> list[DueTime]:
    """Return what is due from `first`, the next fire time that was told, up to now, in order.

    A time within the grace fires whatever the policy says.
    """
    punctual_from = now - timedelta(seconds=rules.grace_seconds)
    due: list[DueTime] = []
    if first < punctual_from:
        due += _late(timetable, policy, first, punctual_from - _MICROSECOND, rules.catch_up_limit)
    start = max(first, punctual_from) - _MICROSECOND
    for moment in upcoming(timetable, start):
        if moment > now:
            break
        due.append(DueTime(moment))
    # The rules of the zone may have changed since the time was told; what was told is kept.
    return due or [DueTime(first)]


def _late(
    timetable: Timetable, policy: Misfire, first: datetime, last: datetime, limit: int
) -> Iterator[DueTime]:
    if policy is not Misfire.CATCH_UP:
        newest = (newest_between(timetable, first, last, 1) or [first])[-1]
        yield DueTime(newest, policy is Misfire.RUN_ONCE, _before(newest, first))
        return
    kept = newest_between(timetable, first, last, limit + 1)
    if len(kept) > limit:
        dropped = kept.pop(0)
        yield DueTime(dropped, fires=False, missed_since=_before(dropped, first))
    for moment in kept:
        yield DueTime(moment)


def _before(moment: datetime, first: datetime) -> datetime | None:
    return first if first < moment else None
