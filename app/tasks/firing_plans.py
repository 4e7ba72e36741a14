"""What one schedule does when it is due: its misfire and overlap policies applied, nothing written.

The outcome of a fire time is `fired`, `skipped` (an earlier run has not ended), `missed` (nobody
was there) or `failed` (its run was refused).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Row

from app.common.errors import TaskyardError
from app.common.tracing import new_trace
from app.tasks.catalogue import CatalogueEntry
from app.tasks.making import RunMaker
from app.tasks.misfires import DueTime, Misfire, MisfireRules, Overlap, due_times
from app.tasks.requests import NewRun
from app.tasks.schedule_runs import firing_row, make_run, timetable_of

Failure = dict[str, str]
_CURE = "Change the schedule (PATCH) to set it going again."


@dataclass
class FiringPlan:
    """The rows, runs and cancels of one schedule, and when it is due next."""

    schedule: Row[Any]
    next_fire_at: datetime | None = None
    error: Failure | None = None
    firings: list[dict[str, Any]] = field(default_factory=list)
    runs: list[NewRun] = field(default_factory=list)
    cancels: Sequence[str] = ()


class FiringPlanner:
    """Plans schedules that are due; `entries` are their tasks, or why there is none."""

    def __init__(
        self, maker: RunMaker, entries: dict[str, CatalogueEntry | Failure], rules: MisfireRules
    ) -> None:
        self._maker = maker
        self._entries = entries
        self._rules = rules

    def plan(self, schedule: Row[Any], live: Sequence[str]) -> FiringPlan:
        """Return the plan; `live` are the schedule's runs that have not ended.

        Nothing that is wrong with one schedule raises: the others must fire.
        """
        plan = FiringPlan(schedule)
        try:
            timetable = timetable_of(schedule)
            due = due_times(
                timetable,
                Misfire(schedule.misfire),
                schedule.next_fire_at,
                schedule.now,
                self._rules,
            )
            plan.next_fire_at = timetable.next_after(due[-1].fire_time)
        except (TaskyardError, OverflowError) as error:
            plan.error = failure_of(error)
            reason = f"{plan.error['message']} {_CURE}"
            plan.firings.append(
                firing_row(schedule, schedule.next_fire_at, "failed", reason=reason)
            )
            return plan
        for one in due:
            if not one.fires:
                plan.firings.append(
                    firing_row(
                        schedule,
                        one.fire_time,
                        "missed",
                        reason="No beat was there in time.",
                        missed_since=one.missed_since,
                    )
                )
        self._fire([one for one in due if one.fires], plan, live)
        return plan

    def _fire(self, due: list[DueTime], plan: FiringPlan, live: Sequence[str]) -> None:
        match Overlap(plan.schedule.overlap):
            case Overlap.SKIP:
                for one in due:
                    blocking = [*live, *(run.id for run in plan.runs)]
                    if blocking:
                        self._skip(one, plan, f"The run {blocking[0]} has not ended.")
                    else:
                        self._run(one, plan)
            case Overlap.CANCEL_PREVIOUS:
                for one in due[:-1]:
                    self._skip(one, plan, "A later fire time that was due as well took its place.")
                for one in due[-1:]:
                    self._run(one, plan)
                plan.cancels = live if plan.runs else ()
            case Overlap.ALLOW:
                for one in due:
                    self._run(one, plan)

    def _run(self, due: DueTime, plan: FiringPlan) -> None:
        run = self._make(plan.schedule)
        if isinstance(run, NewRun):
            plan.runs.append(run)
            plan.firings.append(
                firing_row(
                    plan.schedule,
                    due.fire_time,
                    "fired",
                    missed_since=due.missed_since,
                    run_id=run.id,
                )
            )
        else:
            plan.error = run
            plan.firings.append(
                firing_row(plan.schedule, due.fire_time, "failed", reason=run["message"])
            )

    def _skip(self, due: DueTime, plan: FiringPlan, reason: str) -> None:
        plan.firings.append(firing_row(plan.schedule, due.fire_time, "skipped", reason=reason))

    def _make(self, schedule: Row[Any]) -> NewRun | Failure:
        entry = self._entries[schedule.task]
        if not isinstance(entry, CatalogueEntry):
            return entry
        try:
            return make_run(self._maker, entry, schedule, trace_id=new_trace().trace_id)
        except TaskyardError as error:
            return failure_of(error)


def failure_of(error: Exception) -> Failure:
    """Return what a schedule shows of an error: its code, and words with every wrong field."""
    if not isinstance(error, TaskyardError):
        return {"type": "INVALID_SCHEDULE", "message": "The schedule never fires again."}
    faults = "; ".join(f"{'.'.join(map(str, one.loc))}: {one.msg}" for one in error.errors)
    return {"type": error.code, "message": f"{error.detail} {faults}".strip()}
