"""Schedules: tasks that run by themselves, by cron or by interval."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.api.accepting import accepted_run
from app.api.cursors import open_cursor, seal_cursor
from app.api.dependencies import CoreServices, Reader, requires
from app.api.faults import in_body
from app.api.links import run_links
from app.api.run_filters import Limit
from app.api.schedule_schemas import (
    FiringList,
    NewScheduleBody,
    Schedule,
    ScheduleChangeBody,
    ScheduleList,
    SchedulePreview,
    ScheduleQuery,
)
from app.api.schedule_views import firing_view, preview_view, schedule_view
from app.api.schemas import AcceptedRun
from app.auth.principal import Principal
from app.common.redaction import redact
from app.common.tracing import current_trace
from app.tasks.errors import InvalidCursor
from app.tasks.schedule_queries import ScheduleFilters

router = APIRouter(prefix="/schedules", tags=["schedules"])

ScheduleId = Annotated[str, Path(description="The schedule's id.")]
ScheduleManager = Annotated[Principal, Depends(requires("schedules:manage"))]
_TAKEN: dict[int | str, dict[str, Any]] = {409: {"description": "The name is taken"}}
_OF_CODE: dict[int | str, dict[str, Any]] = {
    409: {"description": "The name is taken, or the schedule is declared in code"}
}
_CHANGED: dict[int | str, dict[str, Any]] = {
    412: {"description": "It was changed since `updated_at`"}
}


async def read_filters(query: Annotated[ScheduleQuery, Query()]) -> ScheduleFilters:
    """Return what the list is narrowed to."""
    return query.filters()


@router.post("", status_code=201, responses=_TAKEN)
async def create_schedule(
    body: NewScheduleBody,
    services: CoreServices,
    caller: ScheduleManager,
    request: Request,
    response: Response,
) -> Schedule:
    """Make a schedule; its parameters are checked now and at each fire time."""
    with in_body():
        row = await services.schedules.create(body.wish(), caller)
    made = schedule_view(row, request)
    response.headers["Location"] = made.links["self"]
    return made


@router.get("")
async def list_schedules(
    services: CoreServices,
    caller: Reader,
    filters: Annotated[ScheduleFilters, Depends(read_filters)],
    request: Request,
    limit: Limit = 50,
    cursor: str | None = None,
) -> ScheduleList:
    """Return schedules, newest first."""
    scope = ("schedules", caller.tenant, filters)
    page = await services.schedules.list(filters, limit, open_cursor(cursor, scope), caller)
    items = [schedule_view(row, request) for row in page.items]
    for item in items:
        item.params = redact(item.params)
    return ScheduleList(items=items, next_cursor=seal_cursor(page.next_cursor, scope))


@router.get("/{schedule_id}")
async def get_schedule(
    schedule_id: ScheduleId, services: CoreServices, caller: Reader, request: Request
) -> Schedule:
    """Return a schedule."""
    return schedule_view(await services.schedules.get(schedule_id, caller), request)


@router.patch("/{schedule_id}", responses=_OF_CODE | _CHANGED)
async def change_schedule(
    schedule_id: ScheduleId,
    body: ScheduleChangeBody,
    services: CoreServices,
    caller: ScheduleManager,
    request: Request,
) -> Schedule:
    """Change a schedule; `{"is_active": false}` pauses it, and what it misses then is not made
    up for.
    """
    with in_body():
        row = await services.schedules.change(
            schedule_id, body.changes(), caller, unless_changed_since=body.updated_at
        )
    return schedule_view(row, request)


@router.delete(
    "/{schedule_id}",
    status_code=204,
    responses={409: {"description": "The schedule is declared in code"}},
)
async def delete_schedule(
    schedule_id: ScheduleId, services: CoreServices, caller: ScheduleManager
) -> None:
    """Remove a schedule and its history; the runs that it made stay."""
    await services.schedules.delete(schedule_id, caller)


@router.post("/{schedule_id}/run", status_code=202)
async def run_schedule(
    schedule_id: ScheduleId,
    services: CoreServices,
    caller: ScheduleManager,
    request: Request,
    response: Response,
) -> AcceptedRun:
    """Run it now, whatever its times, its pause and its overlap policy say."""
    accepted = await services.schedules.run_now(schedule_id, caller, trace=current_trace())
    links = run_links(request, accepted.task_id)
    response.headers["Location"] = links["self"]
    return accepted_run(accepted, links)


@router.get("/{schedule_id}/preview")
async def preview_schedule(
    schedule_id: ScheduleId,
    services: CoreServices,
    caller: Reader,
    count: Annotated[int, Query(ge=1, le=200)] = 20,
) -> SchedulePreview:
    """Return the next fire times, in UTC and on the clock of its time zone."""
    row, moments = await services.schedules.preview(schedule_id, count, caller)
    return preview_view(row, moments)


@router.get("/{schedule_id}/firings")
async def list_firings(
    schedule_id: ScheduleId,
    services: CoreServices,
    caller: Reader,
    request: Request,
    limit: Limit = 50,
    cursor: str | None = None,
) -> FiringList:
    """Return what became of its fire times, newest first."""
    scope = ("firings", caller.tenant, schedule_id)
    place = open_cursor(cursor, scope)
    page = await services.schedules.firings(schedule_id, limit, _number(place), caller)
    return FiringList(
        items=[firing_view(row, request) for row in page.items],
        next_cursor=seal_cursor(page.next_cursor, scope),
    )


def _number(place: str | None) -> int | None:
    if place is None:
        return None
    # The seal has no key, so anything may stand in it.
    if not (place.isascii() and place.isdigit() and len(place) <= 18):
        raise InvalidCursor("The cursor was not made by this list.")
    return int(place)
