"""Many runs in one request, and how they fare."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.api.dependencies import CoreServices, Manager, Reader, Runner
from app.api.door import takes_batches
from app.api.faults import in_body
from app.api.links import batch_links
from app.api.request_headers import KEY_PARAMETER, IdempotencyKey
from app.api.schemas import AcceptedBatch, BatchStatus, RunBatchBody
from app.common.tracing import current_trace, new_trace
from app.tasks.batches import BatchState
from app.tasks.requests import RunRequest
from app.tasks.statuses import ENDED

router = APIRouter(tags=["batches"])

BatchId = Annotated[str, Path(description="The batch's id.")]


@router.post(
    "/tasks/run/batch",
    status_code=202,
    response_model_exclude_defaults=True,
    responses={
        409: {"description": "The first request with this idempotency key is still under way"}
    },
    openapi_extra={"parameters": [KEY_PARAMETER]},
)
@takes_batches
async def run_batch(
    *,
    body: RunBatchBody,
    services: CoreServices,
    caller: Runner,
    key: IdempotencyKey,
    request: Request,
    response: Response,
) -> AcceptedBatch:
    """Accept 1 to 10,000 runs, all or none; when this answers 202 every one is durable."""
    wishes = [
        RunRequest(task=item.task, params=item.params, options=item.options, labels=item.labels)
        for item in body.items
    ]
    with in_body():
        accepted = await services.batches.submit(
            wishes, principal=caller, trace=current_trace() or new_trace(), idempotency_key=key
        )
    links = batch_links(request, accepted.batch_id)
    response.headers["Location"] = links["self"]
    if accepted.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return AcceptedBatch(
        batch_id=accepted.batch_id,
        task_ids=list(accepted.task_ids),
        deduplicated=accepted.deduplicated,
        links=links,
    )


@router.get("/batches/{batch_id}")
async def get_batch(
    batch_id: BatchId, services: CoreServices, caller: Reader, request: Request
) -> BatchStatus:
    """Return how many runs of a batch are in each status."""
    return _view(await services.batches.get(batch_id, caller), request)


@router.post("/batches/{batch_id}/cancel", status_code=202)
async def cancel_batch(
    batch_id: BatchId, services: CoreServices, caller: Manager, request: Request
) -> BatchStatus:
    """Cancel the runs of a batch that wait, and ask those that run to stop."""
    return _view(await services.batches.cancel(batch_id, caller), request)


def _view(batch: BatchState, request: Request) -> BatchStatus:
    return BatchStatus(
        batch_id=batch.batch_id,
        total=batch.total,
        deduplicated=batch.deduplicated,
        finished=sum(batch.counts[status] for status in ENDED),
        counts=dict(batch.counts),
        created_by=batch.created_by,
        created_at=batch.created_at,
        links=batch_links(request, batch.batch_id),
    )
