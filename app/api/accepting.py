"""A request for one run and its answer: where it is, or the whole run for who waited for it."""

from fastapi import Request, Response

from app.api.faults import in_body
from app.api.links import run_links
from app.api.run_views import run_view
from app.api.schemas import AcceptedRun, Run, RunTaskBody
from app.api.waiting import wait_for_end
from app.auth.principal import Principal
from app.common.tracing import current_trace, new_trace
from app.tasks.requests import RunRequest
from app.tasks.services import Services
from app.tasks.statuses import ENDED, Status
from app.tasks.submission import Submitted

_RETRY_AFTER_SECONDS = "1"


async def submit_run(
    body: RunTaskBody, *, services: Services, caller: Principal, key: str | None = None
) -> Submitted:
    """Return the accepted run; faults are told at their place in the body."""
    wish = RunRequest(task=body.task, params=body.params, options=body.options, labels=body.labels)
    with in_body():
        return await services.submission.submit(
            wish, principal=caller, trace=current_trace() or new_trace(), idempotency_key=key
        )


def accepted_run(accepted: Submitted, links: dict[str, str]) -> AcceptedRun:
    """Return the body of a 202."""
    return AcceptedRun(
        task_id=accepted.task_id,
        task=accepted.task,
        status=Status(accepted.status),
        created_at=accepted.created_at,
        deduplicated=accepted.deduplicated,
        links=links,
    )


async def answer_accepted(
    accepted: Submitted,
    request: Request,
    response: Response,
    *,
    services: Services,
    caller: Principal,
    wait_seconds: int = 0,
) -> AcceptedRun | Response:
    """Return the body of a 202 after setting its headers; a whole 200 for a run that ended in
    `wait_seconds`.
    """
    links = run_links(request, accepted.task_id)
    response.headers["Location"] = links["self"]
    if accepted.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    if wait_seconds:
        response.headers["Preference-Applied"] = f"wait={wait_seconds}"
        row = await wait_for_end(services.runs, accepted.task_id, caller, wait_seconds, request)
        if row.status in ENDED:
            return _whole(run_view(row, request), response)
    response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    return accepted_run(accepted, links)


def _whole(run: Run, response: Response) -> Response:
    document = run.model_dump_json()
    return Response(document, headers=response.headers, media_type="application/json")
