"""The bodies of the schedule routes, with the exact fields that clients rely on."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from app.api.moments import Moment
from app.api.schemas import StrictBody, TaskName
from app.tasks.misfires import Misfire, Overlap
from app.tasks.schedule_queries import ScheduleFilters
from app.tasks.schedules import MAX_NAME, ScheduleWish
from app.tasks.timetables import MAX_INTERVAL_SECONDS, MIN_INTERVAL_SECONDS

_NULL_MEANS_NONE = ("cron", "interval_seconds")
ScheduleName = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
CronText = Annotated[
    str,
    Field(
        max_length=20_000,
        description="Five fields: minute hour day month weekday.",
        examples=["30 2 * * *"],
    ),
]
IntervalSeconds = Annotated[
    float, Field(ge=MIN_INTERVAL_SECONDS, le=MAX_INTERVAL_SECONDS, allow_inf_nan=False)
]
ZoneName = Annotated[
    str,
    Field(max_length=64, description="A name of the IANA database.", examples=["Europe/Berlin"]),
]
MisfirePolicy = Annotated[
    Misfire,
    Field(strict=False, description="What happens to fire times that passed while no beat was up."),
]
OverlapPolicy = Annotated[
    Overlap,
    Field(strict=False, description="What happens while an earlier run has not ended."),
]


class NewScheduleBody(StrictBody):
    """A schedule that is asked for: `cron` or `interval_seconds`, one of the two."""

    name: ScheduleName
    task: TaskName
    params: dict[str, Any] = Field(default_factory=dict)
    cron: CronText | None = None
    interval_seconds: IntervalSeconds | None = None
    timezone: ZoneName = "UTC"
    misfire: MisfirePolicy = Misfire.RUN_ONCE
    overlap: OverlapPolicy = Overlap.ALLOW
    is_active: bool = True

    def wish(self) -> ScheduleWish:
        """Return the wish for the service."""
        return ScheduleWish(**dict(self))


class ScheduleChangeBody(StrictBody):
    """What to change; a field that is left out stays.

    `cron` takes the place of `interval_seconds` and the other way round.
    """

    name: ScheduleName | None = None
    task: TaskName | None = None
    params: dict[str, Any] | None = None
    cron: CronText | None = None
    interval_seconds: IntervalSeconds | None = None
    timezone: ZoneName | None = None
    misfire: MisfirePolicy | None = None
    overlap: OverlapPolicy | None = None
    is_active: bool | None = None
    updated_at: Annotated[
        Moment | None,
        Field(description="Change it only if it is still as it was then, else 412."),
    ] = None

    @model_validator(mode="after")
    def _says_something(self) -> "ScheduleChangeBody":
        for name in self.model_fields_set - {*_NULL_MEANS_NONE, "updated_at"}:
            if getattr(self, name) is None:
                message = f"{name} cannot be null; leave it out to keep it"
                raise ValueError(message)
        return self

    def changes(self) -> dict[str, Any]:
        """Return the columns to write."""
        given = self.model_dump(exclude_unset=True, exclude={"updated_at"})
        return {
            name: value.value if isinstance(value, Misfire | Overlap) else value
            for name, value in given.items()
        }


class ScheduleQuery(BaseModel):
    """The filters of the list."""

    task: Annotated[str, Field(max_length=200)] | None = None
    name: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    kind: Literal["api", "code"] | None = None
    is_active: bool | None = None

    def filters(self) -> ScheduleFilters:
        """Return the filters for the service."""
        return ScheduleFilters(**self.model_dump())


class ScheduleFault(BaseModel):
    """Why the last firing made no run, or why the schedule does not fire any more."""

    type: str
    message: str


class Schedule(BaseModel):
    """A schedule; `next_fire_at` is null while it is paused or cannot fire.

    `kind` is `code` for one that a task declares, which is changed there.
    """

    id: str
    name: str
    kind: Literal["api", "code"]
    task: str
    params: dict[str, Any]
    cron: str | None
    interval_seconds: float | None
    timezone: str
    misfire: Misfire
    overlap: Overlap
    is_active: bool
    next_fire_at: Moment | None
    last_fire_at: Moment | None
    last_run_id: str | None
    error: ScheduleFault | None
    created_by: str
    created_at: Moment
    updated_at: Moment
    links: dict[str, str]


class ScheduleList(BaseModel):
    """Schedules, newest first; secret-looking parameters are masked here."""

    items: list[Schedule]
    next_cursor: str | None


class FireTime(BaseModel):
    """A moment to come, in UTC and as the clock of the schedule's zone shows it."""

    fire_time: Moment
    local_time: str


class SchedulePreview(BaseModel):
    """The next fire times, counted from now, as if the schedule was not paused."""

    timezone: str
    items: list[FireTime]
    next_cursor: str | None = None


class Firing(BaseModel):
    """What became of a fire time.

    `outcome`: `fired`; `skipped`, as an earlier run had not ended; `missed`, as no beat was up;
    `failed`, as its run was refused. `missed_since` is the first of the fire times that this one
    stands for, when it stands for several.
    """

    fire_time: Moment
    fired_at: Moment
    trigger: Literal["schedule", "manual"]
    outcome: Literal["fired", "skipped", "missed", "failed"]
    reason: str | None
    missed_since: Moment | None
    run_id: str | None
    links: dict[str, str]


class FiringList(BaseModel):
    """What became of the fire times, newest first."""

    items: list[Firing]
    next_cursor: str | None
