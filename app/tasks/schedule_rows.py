"""Writing schedules: what follows from their timing goes into the row with it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.types import db_now
from app.tasks.schedule_models import StoredSchedule
from app.tasks.timetables import read_timetable

_TIMING = ("cron", "interval_seconds", "timezone")
_SCHEDULE = StoredSchedule.__table__.c


async def clock(connection: AsyncConnection) -> datetime:
    """Return the database's time."""
    now: datetime = (await connection.execute(select(db_now()))).scalar_one()
    return now


async def insert_schedule(
    connection: AsyncConnection, values: Mapping[str, Any], now: datetime
) -> Row[Any]:
    """Insert a schedule whose times count from now; InvalidSchedule when they would never come."""
    timetable = read_timetable(values["cron"], values["interval_seconds"], values["timezone"], now)
    next_at = timetable.next_after(now) if values["is_active"] else None
    statement = insert(StoredSchedule).values(**values, anchor_at=now, next_fire_at=next_at)
    return (await connection.execute(statement.returning(*_SCHEDULE))).one()


async def update_schedule(
    connection: AsyncConnection, locked: Row[Any], changes: Mapping[str, Any]
) -> Row[Any]:
    """Write the changed fields and what follows from them; `locked` is the row as it is."""
    merged = {**locked._mapping, **changes}  # noqa: SLF001 - SQLAlchemy's public name for it
    now = await clock(connection)
    derived: dict[str, Any] = {}
    is_new_timing = any(merged[name] != locked._mapping[name] for name in _TIMING)  # noqa: SLF001 - as above
    if is_new_timing:
        derived["anchor_at"] = now
    timetable = read_timetable(
        merged["cron"],
        merged["interval_seconds"],
        merged["timezone"],
        derived.get("anchor_at", locked.anchor_at),
    )
    if not merged["is_active"]:
        derived["next_fire_at"] = None
    elif is_new_timing or locked.next_fire_at is None:
        derived["next_fire_at"] = timetable.next_after(now)
    if set(changes) - {"is_active", "name"}:
        derived["error"] = None
    statement = update(StoredSchedule).where(_SCHEDULE.id == locked.id)
    statement = statement.values(**changes, **derived, updated_at=db_now())
    return (await connection.execute(statement.returning(*_SCHEDULE))).one()
