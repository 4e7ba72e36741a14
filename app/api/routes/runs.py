"""Running tasks and looking at the runs."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.responses import StreamingResponse

from app.api.accepting import answer_accepted
from app.api.cursors import open_cursor, seal_cursor
from app.api.dependencies import CoreServices, Manager, Reader, Runner
from app.api.faults import in_body
from app.api.request_headers import HEADER_PARAMETERS, IdempotencyKey, WaitSeconds
from app.api.run_filters import LABEL_PARAMETER, Filters, Limit
from app.api.run_views import event_view, log_view, run_view
from app.api.schemas import AcceptedRun, Run, RunEventList, RunList, RunLogList, RunTaskBody
from app.common.redaction import redact
from app.common.strict_json import dump_bytes
from app.common.tracing import current_trace, new_trace
from app.storage import StorageReader
from app.tasks.errors import TaskNotFinished
from app.tasks.requests import RunRequest
from app.tasks.statuses import Status

router = APIRouter(prefix="/tasks", tags=["runs"])

TaskId = Annotated[str, Path(description="The run's id.")]


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
    wish = RunRequest(task=body.task, params=body.params, options=body.options, labels=body.labels)
    with in_body():
        accepted = await services.submission.submit(
            wish, principal=caller, trace=current_trace() or new_trace(), idempotency_key=key
        )
    return await answer_accepted(
        accepted,
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
async def list_run_events(task_id: TaskId, services: CoreServices, caller: Reader) -> RunEventList:
    """Return each transition of a run, oldest first."""
    rows = await services.runs.events(task_id, caller)
    return RunEventList(items=[event_view(row) for row in rows])


@router.get("/{task_id}/logs")
async def list_run_logs(task_id: TaskId, services: CoreServices, caller: Reader) -> RunLogList:
    """Return the lines that the task wrote through its context, oldest first."""
    rows = await services.runs.logs(task_id, caller)
    return RunLogList(items=[log_view(row) for row in rows])


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
