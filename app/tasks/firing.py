"""Firing: each fire time that is due becomes a row with its run, in one commit.

Any number of processes may fire at once and none of them leads: each takes schedules that no other
holds (`SKIP LOCKED`), and the unique index on the fire time is there for whatever nobody thought
of. The clock is the database's; the next fire time follows from the last one, not from now.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from app.common import failpoints
from app.common.errors import TaskyardError
from app.common.logging import get_logger
from app.common.metrics import SCHEDULE_FIRINGS, SCHEDULE_LATENESS_SECONDS
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import IdType, JsonType, UTCDateTime, db_now, db_now_plus
from app.tasks.catalogue import CatalogueEntry
from app.tasks.code_schedules import bring_into_table
from app.tasks.errors import RunHasEnded, RunNotFound
from app.tasks.firing_plans import Failure, FiringPlan, FiringPlanner, failure_of
from app.tasks.insertion import first_event, insert_unique, release_keys
from app.tasks.misfires import MisfireRules, Overlap
from app.tasks.models import TaskRun, TaskRunEvent
from app.tasks.requests import NewRun
from app.tasks.schedule_models import ScheduleFiring, StoredSchedule
from app.tasks.schedule_runs import caller_of, skipped_for
from app.tasks.services import Services

_CHUNK = 200
# A round ends here, so that the sweep has its turn; what is still due comes first in the next.
_MOST_CHUNKS = 100
# One commit stays short although each schedule of the chunk may have many times to catch up.
_MOST_RUNS = 1000
_SCHEDULE = StoredSchedule.__table__.c
_FIRING = ScheduleFiring.__table__.c
_RUN = TaskRun.__table__.c
_IS_DUE = and_(_SCHEDULE.next_fire_at.is_not(None), _SCHEDULE.next_fire_at <= db_now())
_TAKE_DUE = (
    select(StoredSchedule.__table__, db_now().label("now"))
    .where(_IS_DUE)
    .order_by(_SCHEDULE.next_fire_at)
    .limit(_CHUNK)
    .with_for_update(skip_locked=True)
)
_MOVE_ON = (
    update(StoredSchedule)
    .where(_SCHEDULE.id == bindparam("schedule_id", type_=IdType))
    .values(
        next_fire_at=bindparam("next_at", type_=UTCDateTime),
        last_fire_at=func.coalesce(
            bindparam("fired_for", type_=UTCDateTime), _SCHEDULE.last_fire_at
        ),
        last_run_id=func.coalesce(bindparam("run_id", type_=IdType), _SCHEDULE.last_run_id),
        error=bindparam("failure", type_=JsonType()),
    )
)
_SKIP = (
    update(ScheduleFiring)
    .where(_FIRING.run_id == bindparam("own_id", type_=IdType))
    .values(
        outcome=bindparam("outcome"),
        reason=bindparam("reason"),
        run_id=bindparam("run_id", type_=IdType),
    )
)
log = get_logger(__name__)


@dataclass
class Fired:
    """What one commit has fired."""

    plans: list[FiringPlan]
    runs: list[NewRun]
    seconds: float


class Firing:
    """Fires what is due; every beat does it, however many there are."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._databases = services.databases
        settings = services.settings.schedules
        self._rules = MisfireRules(settings.misfire_grace_seconds, settings.catch_up_limit)

    async def begin(self) -> None:
        """Bring the schedules that code declares into the table; once, before the first firing."""
        await bring_into_table(self._databases, self._services.registry)

    async def fire_due(self) -> int:
        """Return how many runs were made."""
        made = 0
        sends = True
        for _ in range(_MOST_CHUNKS):
            if not await self._is_any_due():
                break
            fired = await self._fire_chunk()
            if not fired.plans:
                # Others hold what is due.
                break
            made += len(fired.runs)
            _count(fired)
            # With the broker down each call would wait; the sweeper sends what is left.
            sends = sends and await self._send(fired.runs)
            await self._cancel(fired.plans)
        return made

    async def _is_any_due(self) -> bool:
        # On SQLite a transaction takes the only write lock, so none is begun for nothing.
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            due = await connection.execute(select(_SCHEDULE.id).where(_IS_DUE).limit(1))
            return due.first() is not None

    async def _fire_chunk(self) -> Fired:
        async with self._databases.begin(APPLICATION_BIND) as connection:
            rows = (await connection.execute(_TAKE_DUE)).all()
            started = time.monotonic()
            plans = await self._plan(connection, rows)
            runs = await self._write(connection, plans)
            failpoints.hit("schedules.before_commit")
        failpoints.hit("schedules.after_commit")
        return Fired(plans, runs, time.monotonic() - started)

    async def _plan(
        self, connection: AsyncConnection, rows: Sequence[Row[Any]]
    ) -> list[FiringPlan]:
        entries = await self._entries(row.task for row in rows)
        planner = FiringPlanner(self._services.maker, entries, self._rules)
        live = await self._live(connection, rows)
        plans: list[FiringPlan] = []
        runs = 0
        for row in rows:
            if runs >= _MOST_RUNS:
                break
            plans.append(planner.plan(row, live[row.id]))
            runs += len(plans[-1].runs)
        return plans

    async def _entries(self, tasks: Iterable[str]) -> dict[str, CatalogueEntry | Failure]:
        entries: dict[str, CatalogueEntry | Failure] = {}
        for task in set(tasks):
            try:
                entries[task] = await self._services.catalogue.get(task)
            except TaskyardError as error:
                entries[task] = failure_of(error)
        return entries

    async def _live(
        self, connection: AsyncConnection, rows: Sequence[Row[Any]]
    ) -> dict[str, list[str]]:
        """Return the runs that have not ended, by schedule, of those that do not allow overlap."""
        asking = [row.id for row in rows if row.overlap != Overlap.ALLOW]
        live: dict[str, list[str]] = defaultdict(list)
        if asking:
            statement = (
                select(_RUN.schedule_id, _RUN.id)
                .where(_RUN.schedule_id.in_(asking), _RUN.finished_at.is_(None))
                .order_by(_RUN.id)
            )
            for run in await connection.execute(statement):
                live[run.schedule_id].append(run.id)
        return live

    async def _write(
        self, connection: AsyncConnection, plans: Sequence[FiringPlan]
    ) -> list[NewRun]:
        """Insert firings, runs and events, and move the schedules on; return the runs."""
        firings = [firing for plan in plans for firing in plan.firings]
        if not firings:
            return []
        taken = await connection.execute(self._insert_firings(), firings)
        fired = set(taken.scalars())
        runs = [run for plan in plans for run in plan.runs if run.id in fired]
        stands_for = await _insert_runs(connection, runs)
        new = [run for run in runs if stands_for[run.id] == run.id]
        if equal := {run_id: other for run_id, other in stands_for.items() if other != run_id}:
            await _tell_of_equal_runs(connection, plans, equal)
        fired = {run.id for run in new}
        await connection.execute(_MOVE_ON, [_moved(plan, fired) for plan in plans])
        return new

    def _insert_firings(self) -> Any:
        dialect = (
            postgresql if self._databases.dialect(APPLICATION_BIND) == "postgresql" else sqlite
        )
        return (
            dialect.insert(ScheduleFiring)
            .on_conflict_do_nothing(index_elements=["schedule_id", "trigger", "fire_time"])
            .returning(_FIRING.run_id)
        )

    async def _send(self, runs: Sequence[NewRun]) -> bool:
        """Send the messages; return whether the broker took any."""
        confirmed = await self._services.outbox.flush([run.wakeup(0.0) for run in runs])
        return bool(confirmed) or not runs

    async def _cancel(self, plans: Sequence[FiringPlan]) -> None:
        """Ask the runs that a later one took the place of to end."""
        for plan in plans:
            for run_id in plan.cancels:
                with suppress(RunHasEnded, RunNotFound):
                    await self._services.runs.cancel(run_id, caller_of(plan.schedule))


async def _insert_runs(connection: AsyncConnection, runs: Sequence[NewRun]) -> dict[str, str]:
    """Insert runs with their events; return per run the id of the one that stands for it, which is
    another one's when the task is unique for a time and has an equal run.
    """
    rows = {run.id: run.row for run in runs}
    unique = [run for run in runs if run.unique_for_seconds]
    stands_for = {run.id: run.id for run in runs}
    if unique:
        await release_keys(connection, unique)
        stands_for |= await insert_unique(connection, unique, rows)
    if plain := [rows[run.id] for run in runs if not run.unique_for_seconds]:
        await connection.execute(insert(TaskRun), plain)
    new = [run for run in runs if stands_for[run.id] == run.id]
    if new:
        events = [first_event(run, run.row["created_by"]) for run in new]
        await connection.execute(insert(TaskRunEvent), events)
    return stands_for


async def _tell_of_equal_runs(
    connection: AsyncConnection, plans: Sequence[FiringPlan], equal: Mapping[str, str]
) -> None:
    """Turn the firings whose run was not needed into skipped ones, in the table and the plans."""
    skipped = [firing for plan in plans for firing in plan.firings if firing["run_id"] in equal]
    for firing in skipped:
        firing.update(skipped_for(equal[firing["run_id"]]))
    await connection.execute(
        _SKIP, [{"own_id": run_id, **skipped_for(other)} for run_id, other in equal.items()]
    )


def firings_before(days: int) -> ColumnElement[bool]:
    """The condition on the rows of the history that are older."""
    return _FIRING.fired_at < db_now_plus(-86_400.0 * days)


async def forget_firings(databases: Databases, days: int, limit: int) -> int:
    """Delete at most so many rows of the history that are older; return how many."""
    old = select(_FIRING.id).where(firings_before(days)).limit(limit)
    async with databases.begin(APPLICATION_BIND) as connection:
        statement = delete(ScheduleFiring).where(_FIRING.id.in_(old.scalar_subquery()))
        return (await connection.execute(statement)).rowcount


def _moved(plan: FiringPlan, fired: set[str]) -> dict[str, Any]:
    last = next((one for one in reversed(plan.firings) if one["run_id"] in fired), None)
    return {
        "schedule_id": plan.schedule.id,
        "next_at": plan.next_fire_at,
        "fired_for": last["fire_time"] if last else None,
        "run_id": last["run_id"] if last else None,
        "failure": plan.error,
    }


def _count(fired: Fired) -> None:
    for plan in fired.plans:
        if plan.error is not None:
            log.warning("schedule cannot fire", schedule_id=plan.schedule.id, **plan.error)
        for firing in plan.firings:
            SCHEDULE_FIRINGS.labels(firing["outcome"]).inc()
            if firing["outcome"] == "fired":
                late = (plan.schedule.now - firing["fire_time"]).total_seconds()
                SCHEDULE_LATENESS_SECONDS.observe(late + fired.seconds)
