"""From a schedule to the run of one fire time; nothing is written here."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Row

from app.tasks.catalogue import CatalogueEntry
from app.tasks.making import RunMaker
from app.tasks.requests import NewRun, RunRequest
from app.tasks.timetables import Timetable, read_timetable


@dataclass(frozen=True)
class ScheduleCaller:
    """A schedule as the caller of what it does: it acts within its tenant."""

    id: str
    tenant: str | None

    def allows(self, scope: str) -> bool:
        """Return False: what its task asks for was checked when somebody made the schedule."""
        del scope
        return False


def caller_of(schedule: Row[Any]) -> ScheduleCaller:
    """Return the schedule as a caller; its id is what its runs show as `created_by`."""
    return ScheduleCaller(f"schedule:{schedule.id}", schedule.tenant)


def timetable_of(schedule: Row[Any]) -> Timetable:
    """Return when the schedule fires; InvalidSchedule when this machine cannot tell."""
    return read_timetable(
        schedule.cron, schedule.interval_seconds, schedule.timezone, schedule.anchor_at
    )


def make_run(
    maker: RunMaker, entry: CatalogueEntry, schedule: Row[Any], *, trace_id: str
) -> NewRun:
    """Return the checked run; raises InvalidParams, InvalidOptions or ParamsTooLarge."""
    caller = caller_of(schedule)
    request = RunRequest(task=entry.name, params=schedule.params)
    run = maker.make(entry, request, created_by=caller.id, tenant=caller.tenant, trace_id=trace_id)
    run.row["schedule_id"] = schedule.id
    return run


def firing_row(
    schedule: Row[Any],
    fire_time: datetime,
    outcome: str,
    *,
    trigger: str = "schedule",
    reason: str | None = None,
    missed_since: datetime | None = None,
    run_id: str | None = None,
) -> dict[str, Any]:
    """Return the row that tells what became of a fire time."""
    return {
        "schedule_id": schedule.id,
        "fire_time": fire_time,
        "trigger": trigger,
        "outcome": outcome,
        "reason": reason,
        "missed_since": missed_since,
        "run_id": run_id,
    }


def skipped_for(run_id: str) -> dict[str, Any]:
    """Return what a firing tells whose task is unique for a time and has an equal run."""
    reason = "The task is unique for a time, and an equal run stands for this one."
    return {"outcome": "skipped", "reason": reason, "run_id": run_id}
