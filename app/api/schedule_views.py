"""Rows of schedules as clients see them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Request
from sqlalchemy.engine import Row

from app.api.links import path_to
from app.api.schedule_schemas import FireTime, Firing, Schedule, SchedulePreview

_OWN_PATHS = ("run", "preview", "firings")


def schedule_view(row: Row[Any], request: Request) -> Schedule:
    """Return a schedule."""
    columns = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    own = path_to(request, f"schedules/{row.id}")
    links = {"self": own, **{name: f"{own}/{name}" for name in _OWN_PATHS}}
    links["runs"] = path_to(request, f"tasks?schedule_id={row.id}")
    if row.last_run_id is not None:
        links["last_run"] = path_to(request, f"tasks/{row.last_run_id}")
    copied = {name: columns[name] for name in Schedule.model_fields if name != "links"}
    return Schedule(**copied, links=links)


def preview_view(row: Row[Any], moments: Sequence[datetime]) -> SchedulePreview:
    """Return the moments with what the zone's clock shows at each."""
    zone = ZoneInfo(row.timezone)
    items = [
        FireTime(fire_time=moment, local_time=moment.astimezone(zone).isoformat())
        for moment in moments
    ]
    return SchedulePreview(timezone=row.timezone, items=items)


def firing_view(row: Row[Any], request: Request) -> Firing:
    """Return what became of a fire time."""
    columns = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    links = {} if row.run_id is None else {"run": path_to(request, f"tasks/{row.run_id}")}
    copied = {name: columns[name] for name in Firing.model_fields if name != "links"}
    return Firing(**copied, links=links)
