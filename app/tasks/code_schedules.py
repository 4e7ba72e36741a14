"""The schedules that code declares, brought into the table when a beat starts.

A schedule that is new is made, one that was changed in the code follows it, one that the code has
dropped goes. Whether it is paused is the operator's: a pause survives all of that but the last.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError

from app.common.ids import new_id
from app.common.logging import get_logger
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.registry import Registry, TaskSpec
from app.tasks.schedule_declaration import Schedule
from app.tasks.schedule_models import StoredSchedule
from app.tasks.schedule_rows import clock, insert_schedule, update_schedule
from app.tasks.schedules import CODE_PREFIX

_SCHEDULE = StoredSchedule.__table__.c
_MOST_TRIES: Final = 3
log = get_logger(__name__)


async def bring_into_table(databases: Databases, registry: Registry) -> None:
    """Make the table's schedules of code those of the registry; doing it twice changes nothing."""
    declared = dict(_declared(registry))
    for turn in range(1, _MOST_TRIES + 1):
        try:
            await _bring(databases, declared)
            return
        except IntegrityError:
            # Another beat has just made one of them.
            if turn == _MOST_TRIES:
                raise


async def _bring(databases: Databases, declared: Mapping[str, dict[str, Any]]) -> None:
    stored = await _stored(databases)
    if not stored.keys() ^ declared.keys() and not any(
        _differences(stored[name], declared[name]) for name in declared
    ):
        return
    async with databases.begin(APPLICATION_BIND) as connection:
        rows = await connection.execute(
            select(StoredSchedule.__table__)
            .where(_SCHEDULE.kind == "code")
            .order_by(_SCHEDULE.id)
            .with_for_update()
        )
        stored = {row.name: row for row in rows}
        now = await clock(connection)
        for name, values in declared.items():
            row = stored.pop(name, None)
            if row is None:
                await insert_schedule(connection, {"id": new_id(), **values}, now)
                log.info("schedule of code made", schedule=name)
            elif changes := _differences(row, values):
                await update_schedule(connection, row, changes)
                log.info("schedule of code changed", schedule=name, changed=sorted(changes))
        for name, row in stored.items():
            await connection.execute(delete(StoredSchedule).where(_SCHEDULE.id == row.id))
            log.info("schedule of code dropped", schedule=name)


async def _stored(databases: Databases) -> dict[str, Row[Any]]:
    async with databases.autocommit(APPLICATION_BIND) as connection:
        rows = await connection.execute(
            select(StoredSchedule.__table__).where(_SCHEDULE.kind == "code")
        )
        return {row.name: row for row in rows}


def _declared(registry: Registry) -> Iterator[tuple[str, dict[str, Any]]]:
    for spec in registry.specs():
        for schedule in spec.options.schedule:
            values = _values(spec, schedule)
            yield values["name"], values


def _values(spec: TaskSpec, schedule: Schedule) -> dict[str, Any]:
    suffix = "" if schedule.name is None else f":{schedule.name}"
    return {
        "name": f"{CODE_PREFIX}{spec.name}{suffix}",
        "kind": "code",
        "task": spec.name,
        "params": dict(schedule.params),
        "cron": schedule.cron,
        "interval_seconds": schedule.interval_seconds,
        "timezone": schedule.timezone,
        "misfire": schedule.misfire,
        "overlap": schedule.overlap,
        "is_active": True,
        "tenant": None,
        "created_by": f"plugin:{spec.plugin}",
    }


def _differences(row: Row[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in values.items()
        if name != "is_active" and row._mapping[name] != value  # noqa: SLF001 - SQLAlchemy's public name for it
    }
