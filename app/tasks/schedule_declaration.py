"""A schedule as the author of a task writes it: `@register_task(…, schedule=Schedule(…))`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from app.common.clock import utc_now
from app.common.errors import TaskyardError
from app.tasks.errors import TaskDeclarationError
from app.tasks.misfires import Misfire, Overlap
from app.tasks.timetables import read_timetable

_MAX_NAME = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """When a task runs by itself: `cron` or `interval_seconds`, and with which parameters.

    `name` tells several schedules of one task apart. Raises TaskDeclarationError at once for
    what could never fire.
    """

    cron: str | None = None
    interval_seconds: float | None = None
    timezone: str = "UTC"
    params: Mapping[str, Any] = field(default_factory=dict)
    misfire: Literal["skip", "run_once", "catch_up"] = "run_once"
    overlap: Literal["allow", "skip", "cancel_previous"] = "allow"
    name: str | None = None

    def __post_init__(self) -> None:
        try:
            read_timetable(self.cron, self.interval_seconds, self.timezone, utc_now())
            Misfire(self.misfire)
            Overlap(self.overlap)
        except (TaskyardError, ValueError, TypeError, AttributeError) as error:
            raise TaskDeclarationError(f"{_told(self)} is not valid: {_why(error)}") from None
        if self.name is not None and not (
            self.name.isprintable() and 0 < len(self.name) <= _MAX_NAME
        ):
            raise TaskDeclarationError(
                f"{_told(self)} has the name {self.name!r}; a name is 1 to {_MAX_NAME} characters."
            )


def read_declared(task: str, value: object) -> tuple[Schedule, ...]:
    """Return the schedules that `schedule=` was given: a cron expression, a Schedule, or a list."""
    given = value if isinstance(value, list | tuple) else [value]
    schedules = tuple(_read_one(task, one) for one in given)
    names = [one.name for one in schedules]
    if len(set(names)) < len(names):
        raise TaskDeclarationError(
            f"The task '{task}' has several schedules of one name.",
            hint="Give each a name of its own: Schedule(name='nightly', …).",
        )
    return schedules


def _read_one(task: str, value: object) -> Schedule:
    if isinstance(value, Schedule):
        return value
    if isinstance(value, str):
        return Schedule(cron=value)
    raise TaskDeclarationError(
        f"The task '{task}' has schedule={value!r}.",
        hint="Write a cron expression like '*/5 * * * *', or Schedule(cron=…, params=…).",
    )


def _told(schedule: Schedule) -> str:
    when = schedule.cron if schedule.cron is not None else schedule.interval_seconds
    return f"The schedule {when!r} ({schedule.timezone})"


def _why(error: Exception) -> str:
    faults = error.errors if isinstance(error, TaskyardError) else ()
    return "; ".join(f"{fault.loc[0]} {fault.msg}" for fault in faults) or str(error)
