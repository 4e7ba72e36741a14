"""Running tasks and looking at the runs."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from app.api.accepting import answer_accepted, submit_run
from app.api.cursors import open_cursor, seal_cursor
from app.api.dependencies import CoreServices, Manager, Reader, Runner
from app.api.links import run_links
from app.api.request_headers import HEADER_PARAMETERS, IdempotencyKey, WaitSeconds
from app.api.run_filters import LABEL_PARAMETER, Filters, Limit
from app.api.run_views import event_view, log_view, run_view
from app.api.schemas import (
    AcceptedRun,
    Run,
    RunChildren,
    RunEventList,
    RunList,
    RunLogList,
    RunTaskBody,
)
from app.api.streaming import RESUME_PARAMETER, EventStream, ResumeAt, desk_of, events_of
from app.common.redaction import redact
from app.common.strict_json import dump_bytes
from app.storage import StorageReader
from app.tasks.errors import TaskNotFinished
from app.tasks.statuses import ENDED, Status

router = APIRouter(prefix="/tasks", tags=["runs"])

TaskId = Annotated[str, Path(description="The run's id.")]
LongLimit = Annotated[int, Query(ge=1, le=1000)]
Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")


@router.post(
    "/run",
    status_code=202,
    response_model=AcceptedRun,
    response_model_exclude_defaults=True,
    responses={
        200: {"model": Run, "description": "The run ended within `Prefer: wait=N`"},
        409: {"description": "The first request with this idempotency key is still under way"},
    },
    openapi_extra={"parameters": HEADER_PARAMETERS},
)
async def run_task(
    *,
    body: RunTaskBody,
    services: CoreServices,
    caller: Runner,
    key: IdempotencyKey,
    wait_seconds: WaitSeconds,
    request: Request,
    response: Response,
) -> AcceptedRun | Response:
    """Accept a run; when this answers 202 the run is durable.

    With `Prefer: wait=N` (at most 30 seconds) the answer is the whole run, if it ends in time.
    """
    return await answer_accepted(
        await submit_run(body, services=services, caller=caller, key=key),
        request,
        response,
        services=services,
        caller=caller,
        wait_seconds=wait_seconds,
    )


@router.get("", openapi_extra={"parameters": [LABEL_PARAMETER]})
async def list_runs(
    services: CoreServices,
    caller: Reader,
    filters: Filters,
    request: Request,
    limit: Limit = 50,
    cursor: str | None = None,
) -> RunList:
    """Return runs, newest first. `label.key=value` filters by a label."""
    scope = (caller.tenant, filters)
    page = await services.runs.list(filters, limit, open_cursor(cursor, scope), caller)
    items = [run_view(row, request) for row in page.items]
    for item in items:
        # A list is looked at over shoulders; the single run shows its parameters as they came.
        item.params = redact(item.params)
    return RunList(items=items, next_cursor=seal_cursor(page.next_cursor, scope))


@router.get("/{task_id}")
async def get_run(task_id: TaskId, services: CoreServices, caller: Reader, request: Request) -> Run:
    """Return one run."""
    return run_view(await services.runs.get(task_id, caller), request)


@router.get(
    "/{task_id}/result",
    response_class=Response,
    responses={
        200: {
            "description": "The result document",
            "content": {"application/json": {"schema": {}}},
        },
        409: {"description": "The run has no result: it has not ended, or it did not succeed"},
    },
)
async def get_task_result(task_id: TaskId, services: CoreServices, caller: Reader) -> Response:
    """Return the result document of a run that succeeded."""
    run = await services.runs.get(task_id, caller)
    if run.status != Status.SUCCEEDED:
        raise TaskNotFinished(f"The run is {run.status}; only a succeeded run has a result.")
    if run.result_ref is None:
        return Response(dump_bytes(run.result), media_type="application/json")
    return _stream(await services.storage.open_reader(run.result_ref))


@router.get("/{task_id}/events")
async def list_run_events(
    task_id: TaskId,
    services: CoreServices,
    caller: Reader,
    limit: LongLimit = 200,
    cursor: str | None = None,
) -> RunEventList:
    """Return each transition of a run, oldest first."""
    scope = ("events", task_id, caller.tenant)
    inner = open_cursor(cursor, scope)
    page = await services.runs.events_page(task_id, caller, limit=limit, cursor=inner)
    items = [event_view(row) for row in page.items]
    return RunEventList(items=items, next_cursor=seal_cursor(page.next_cursor, scope))


@router.get("/{task_id}/logs")
async def list_run_logs(
    task_id: TaskId,
    services: CoreServices,
    caller: Reader,
    level: Annotated[Level | None, Query(description="This level and those above it.")] = None,
    limit: LongLimit = 200,
    cursor: str | None = None,
) -> RunLogList:
    """Return the lines that the task wrote through its context, oldest first."""
    scope = ("logs", task_id, level, caller.tenant)
    inner = open_cursor(cursor, scope)
    levels = LEVELS[LEVELS.index(level) :] if level else ()
    page = await services.runs.logs_page(task_id, caller, limit=limit, cursor=inner, levels=levels)
    items = [log_view(row) for row in page.items]
    return RunLogList(items=items, next_cursor=seal_cursor(page.next_cursor, scope))


@router.get("/{task_id}/children")
async def count_run_children(
    task_id: TaskId, services: CoreServices, caller: Reader, request: Request
) -> RunChildren:
    """Return how many children a run has, by status; the link leads to the list of them."""
    counts = await services.runs.children(task_id, caller)
    return RunChildren(
        total=sum(counts.values()),
        counts={Status(status): count for status, count in sorted(counts.items())},
        links={"list": run_links(request, task_id)["children"]},
    )


@router.get(
    "/{task_id}/stream",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "description": "Server-sent events: `status`, `progress`, `log`, and last `end`",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "The client has seen the end of the run"},
        429: {"description": "The caller follows too many runs"},
    },
    openapi_extra={"parameters": [RESUME_PARAMETER]},
)
async def stream_run(
    task_id: TaskId, services: CoreServices, caller: Reader, resume: ResumeAt, request: Request
) -> Response:
    """Follow a run: all that was told of it, then what happens, in order; it ends with the run.

    `Last-Event-ID` resumes behind an event, so a client that was cut off sees each event once.
    """
    run = await services.runs.get(task_id, caller)
    resume.check(run)
    if resume.at_end and run.status in ENDED:
        return Response(status_code=204)
    desk = desk_of(request)
    leave = desk.take_seat(caller)
    return EventStream(events_of(request, desk, run.id, resume), leave)


@router.post("/{task_id}/cancel", status_code=202)
async def cancel_run(
    task_id: TaskId, services: CoreServices, caller: Manager, request: Request
) -> Run:
    """Cancel a run that waits, or ask a running one to stop; 409 when it has ended."""
    return run_view(await services.runs.cancel(task_id, caller), request)


def _stream(reader: StorageReader) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        async with reader:
            async for chunk in reader:
                yield chunk

    headers = {"Content-Length": str(reader.size)}
    return StreamingResponse(chunks(), media_type="application/json", headers=headers)
