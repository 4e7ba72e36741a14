"""Schedules: made, looked at, changed, removed and run at once; each change with its audit row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.common.errors import FieldError
from app.common.ids import new_id
from app.common.metrics import SCHEDULE_FIRINGS
from app.common.tracing import TraceContext, new_trace
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.audit import Change, write_audit
from app.tasks.catalogue import Catalogue
from app.tasks.insertion import insert_run
from app.tasks.making import RunMaker
from app.tasks.misfires import Misfire, Overlap
from app.tasks.outbox import Outbox
from app.tasks.requests import Caller, RunRequest
from app.tasks.schedule_errors import InvalidSchedule, ScheduleAlreadyExists, ScheduleOfCode
from app.tasks.schedule_models import ScheduleFiring, StoredSchedule
from app.tasks.schedule_queries import ScheduleQueries
from app.tasks.schedule_rows import clock, insert_schedule, update_schedule
from app.tasks.schedule_runs import firing_row, make_run, skipped_for, timetable_of
from app.tasks.submission import Submitted, check_scope
from app.tasks.timetables import preview

MAX_NAME = 200
CODE_PREFIX = "code:"
"""What the names of schedules that code declares begin with; nobody else's may."""
_SCHEDULE = StoredSchedule.__table__.c


@dataclass(frozen=True, kw_only=True)
class ScheduleWish:
    """A schedule that is asked for: `cron` or `interval_seconds`, one of the two."""

    name: str
    task: str
    params: Mapping[str, Any] = field(default_factory=dict)
    cron: str | None = None
    interval_seconds: float | None = None
    timezone: str = "UTC"
    misfire: Misfire = Misfire.RUN_ONCE
    overlap: Overlap = Overlap.ALLOW
    is_active: bool = True


class Schedules(ScheduleQueries):
    """The schedules of an installation, each within what the caller may see: the own tenant's."""

    def __init__(
        self, databases: Databases, catalogue: Catalogue, maker: RunMaker, outbox: Outbox
    ) -> None:
        super().__init__(databases)
        self._catalogue = catalogue
        self._maker = maker
        self._outbox = outbox

    async def create(self, wish: ScheduleWish, principal: Caller) -> Row[Any]:
        """Store a schedule and return it.

        Raises InvalidSchedule, TaskNotRegistered, Forbidden, InvalidParams, ParamsTooLarge and
        ScheduleAlreadyExists.
        """
        _check_name(wish.name)
        await self._check_task(wish.task, wish.params, principal)
        values = {
            "id": new_id(),
            "kind": "api",
            "tenant": principal.tenant,
            "created_by": principal.id,
            **_columns(wish),
        }
        try:
            async with self._databases.begin(APPLICATION_BIND) as connection:
                now = await clock(connection)
                row = await insert_schedule(connection, values, now)
                await _audit(connection, principal, "schedule.created", row, _told(row))
        except IntegrityError as error:
            raise _name_taken(wish.name) from error
        return row

    async def change(
        self,
        schedule_id: str,
        changes: Mapping[str, Any],
        principal: Caller,
        *,
        unless_changed_since: datetime | None = None,
    ) -> Row[Any]:
        """Change the given fields and return the schedule as it is then.

        `cron` takes the place of `interval_seconds` and the other way round. A new timing, and
        going on after a pause, count from now. A schedule of code can only be paused and set
        going again: ScheduleOfCode. With `unless_changed_since`, ScheduleHasChanged when somebody
        was faster. Raises besides what `create` raises, and ScheduleNotFound.
        """
        before = await self.get(schedule_id, principal)
        changes = _completed(changes)
        if before.kind == "code" and set(changes) - {"is_active"}:
            raise _of_code(before, "changed", "or pause it here with is_active: false")
        if "name" in changes:
            _check_name(changes["name"])
        if {"task", "params"} & set(changes):
            task = changes.get("task", before.task)
            await self._check_task(task, changes.get("params", before.params), principal)
        try:
            async with self._databases.begin(APPLICATION_BIND) as connection:
                locked = await self._lock(connection, before.id, principal, unless_changed_since)
                row = await update_schedule(connection, locked, changes)
                await _audit(connection, principal, "schedule.changed", row, _told(row, changes))
        except IntegrityError as error:
            raise _name_taken(changes["name"]) from error
        return row

    async def delete(self, schedule_id: str, principal: Caller) -> None:
        """Remove a schedule and its history; its runs stay. ScheduleOfCode for one of code."""
        row = await self.get(schedule_id, principal)
        if row.kind == "code":
            raise _of_code(row, "deleted", "or pause it with PATCH is_active: false")
        async with self._databases.begin(APPLICATION_BIND) as connection:
            await connection.execute(delete(StoredSchedule).where(_SCHEDULE.id == row.id))
            await _audit(connection, principal, "schedule.deleted", row, _told(row))

    async def run_now(
        self, schedule_id: str, principal: Caller, *, trace: TraceContext | None = None
    ) -> Submitted:
        """Make a run at once, whatever the schedule's times, pause and overlap policy say.

        Raises ScheduleNotFound, TaskNotRegistered, Forbidden, InvalidParams or ParamsTooLarge.
        """
        schedule = await self.get(schedule_id, principal)
        entry = await self._catalogue.get(schedule.task)
        check_scope(entry, principal)
        trace_id = (trace or new_trace()).trace_id
        run = make_run(self._maker, entry, schedule, trace_id=trace_id)
        async with self._databases.begin(APPLICATION_BIND) as connection:
            locked = await self._lock(connection, schedule.id, principal)
            made = await insert_run(connection, run, actor=principal.id)
            moment = await self._free_moment(connection, locked)
            firing = firing_row(locked, moment, "fired", trigger="manual", run_id=run.id)
            is_new = made.id == run.id
            firing |= {} if is_new else skipped_for(made.id)
            await connection.execute(insert(ScheduleFiring), firing)
            moved = {"last_fire_at": moment, "last_run_id": made.id, "error": None}
            await connection.execute(
                update(StoredSchedule).where(_SCHEDULE.id == locked.id).values(**moved)
            )
            await _audit(connection, principal, "schedule.run", locked, {"run_id": made.id})
        SCHEDULE_FIRINGS.labels(firing["outcome"]).inc()
        if is_new:
            self._outbox.offer([run.wakeup(0.0)])
        return Submitted(
            made.id,
            made.task,
            made.status,
            made.created_at,
            replayed=False,
            deduplicated=not is_new,
        )

    async def preview(
        self, schedule_id: str, count: int, principal: Caller
    ) -> tuple[Row[Any], list[datetime]]:
        """Return the schedule and its next fire times from now on, as if it was not paused."""
        row = await self.get(schedule_id, principal)
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            now = await clock(connection)
        return row, preview(timetable_of(row), now, count)

    async def _check_task(self, task: str, params: Mapping[str, Any], principal: Caller) -> None:
        entry = await self._catalogue.get(task)
        check_scope(entry, principal)
        # A run that is thrown away: what would refuse it at each fire time refuses it now.
        self._maker.make(
            entry,
            RunRequest(task=entry.name, params=params),
            created_by=principal.id,
            tenant=principal.tenant,
            trace_id=new_trace().trace_id,
        )

    async def _free_moment(self, connection: AsyncConnection, schedule: Row[Any]) -> datetime:
        """Return now, or a moment later when the schedule was run by hand in this very moment."""
        now = await clock(connection)
        firing = ScheduleFiring.__table__.c
        newest = await connection.execute(
            select(firing.fire_time)
            .where(firing.schedule_id == schedule.id, firing.trigger == "manual")
            .order_by(firing.fire_time.desc())
            .limit(1)
        )
        last = newest.scalar_one_or_none()
        return now if last is None else max(now, last + timedelta(microseconds=1))


def _columns(wish: ScheduleWish) -> dict[str, Any]:
    return {
        "name": wish.name,
        "task": wish.task,
        "params": dict(wish.params),
        "cron": wish.cron,
        "interval_seconds": wish.interval_seconds,
        "timezone": wish.timezone,
        "misfire": wish.misfire.value,
        "overlap": wish.overlap.value,
        "is_active": wish.is_active,
    }


def _completed(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes with what goes without saying: one timing takes the other's place."""
    done = dict(changes)
    for given, other in (("cron", "interval_seconds"), ("interval_seconds", "cron")):
        if done.get(given) is not None:
            done.setdefault(other, None)
    return done


def _check_name(name: str) -> None:
    if not (name.strip() and name.isprintable() and len(name) <= MAX_NAME):
        message = f"must be 1 to {MAX_NAME} printable characters"
        raise _invalid_name(message)
    if name.startswith(CODE_PREFIX):
        raise _invalid_name(f"must not begin with '{CODE_PREFIX}', as those of code do")


def _invalid_name(message: str) -> InvalidSchedule:
    error = FieldError(("name",), message, "invalid_name")
    return InvalidSchedule("The schedule is not valid.", errors=[error])


def _name_taken(name: str) -> ScheduleAlreadyExists:
    return ScheduleAlreadyExists(
        f"A schedule is called '{name}' already.", hint="Change that one, or take another name."
    )


def _of_code(row: Row[Any], what: str, otherwise: str) -> ScheduleOfCode:
    return ScheduleOfCode(
        f"The schedule '{row.name}' is declared in code and cannot be {what} here.",
        hint=f"Change `schedule=` of the task '{row.task}', {otherwise}.",
    )


def _told(row: Row[Any], changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what the audit log keeps; parameters may hold what is nobody's business."""
    told = {"name": row.name, "task": row.task}
    return told if changes is None else {**told, "changed": sorted(changes)}


async def _audit(
    connection: AsyncConnection,
    principal: Caller,
    action: str,
    row: Row[Any],
    detail: Mapping[str, Any],
) -> None:
    change = Change(action=action, object_type="schedule", object_id=row.id, detail=detail)
    await write_audit(connection, principal, [change])
