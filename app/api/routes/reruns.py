"""Running a run again."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.api.accepting import answer_accepted
from app.api.dependencies import CoreServices, Runner
from app.api.faults import in_body
from app.api.request_headers import HEADER_PARAMETERS, IdempotencyKey, WaitSeconds
from app.api.schemas import AcceptedRun, RerunBody, Run
from app.common.tracing import current_trace, new_trace

router = APIRouter(prefix="/tasks", tags=["runs"])


@router.post(
    "/{task_id}/rerun",
    status_code=202,
    response_model=AcceptedRun,
    response_model_exclude_defaults=True,
    responses={
        200: {"model": Run, "description": "The run ended within `Prefer: wait=N`"},
        409: {"description": "The run's task is gone, or the first request with this key is open"},
    },
    openapi_extra={"parameters": HEADER_PARAMETERS},
)
async def rerun_run(
    *,
    task_id: Annotated[str, Path(description="The run's id.")],
    body: RerunBody | None = None,
    services: CoreServices,
    caller: Runner,
    key: IdempotencyKey,
    wait_seconds: WaitSeconds,
    request: Request,
    response: Response,
) -> AcceptedRun | Response:
    """Accept a new run like this one, with other parameters when `params` is given.

    The old run may have ended or not; it stays as it is, and the new one names it in `replay_of`.
    """
    with in_body():
        accepted = await services.reruns.rerun(
            task_id,
            caller,
            trace=current_trace() or new_trace(),
            params=body.params if body else None,
            idempotency_key=key,
        )
    return await answer_accepted(
        accepted,
        request,
        response,
        services=services,
        caller=caller,
        wait_seconds=wait_seconds,
    )
