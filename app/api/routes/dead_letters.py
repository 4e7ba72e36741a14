"""Dead letters: looking at what failed for good, running it again, putting it aside."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.api.accepting import answer_accepted
from app.api.cursors import open_cursor, seal_cursor
from app.api.dead_letter_schemas import (
    DeadLetter,
    DeadLetterGroupList,
    DeadLetterList,
    DeadLetterQuery,
    DiscardedLetters,
    DiscardManyBody,
    Reason,
    ReplayBody,
    ReplayedLetters,
    ReplayManyBody,
)
from app.api.dead_letter_views import group_view, letter_view, summary_view
from app.api.dependencies import CoreServices, Reader, requires
from app.api.faults import in_body
from app.api.links import path_to
from app.api.request_headers import HEADER_PARAMETERS, IdempotencyKey
from app.api.run_filters import Limit
from app.api.schemas import AcceptedRun
from app.auth.principal import Principal
from app.common.tracing import current_trace, new_trace
from app.tasks.dead_letter_queries import DeadLetterFilters

router = APIRouter(prefix="/dead-letters", tags=["dead letters"])

LetterId = Annotated[str, Path(description="The dead letter's id.")]
LetterManager = Annotated[Principal, Depends(requires("dead_letters:manage"))]
_ONE_PARAMETER = [one for one in HEADER_PARAMETERS if one["name"] == "Idempotency-Key"]
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {
        "description": "It was replayed before (`run_id` names the run), it was discarded, it has"
        " no run, or its task is not registered"
    }
}


async def read_filters(query: Annotated[DeadLetterQuery, Query()]) -> DeadLetterFilters:
    """Return what the list is narrowed to."""
    return query.filters()


Filters = Annotated[DeadLetterFilters, Depends(read_filters)]


@router.get("")
async def list_dead_letters(
    services: CoreServices,
    caller: Reader,
    filters: Filters,
    request: Request,
    limit: Limit = 50,
    cursor: str | None = None,
) -> DeadLetterList:
    """Return dead letters, newest first; discarded ones only when `state` asks for them."""
    scope = ("dead letters", caller.tenant, filters)
    place = open_cursor(cursor, scope)
    page = await services.dead_letters.list(filters, limit, place, caller)
    return DeadLetterList(
        items=[summary_view(row, request) for row in page.items],
        next_cursor=seal_cursor(page.next_cursor, scope),
    )


@router.get("/groups")
async def list_dead_letter_groups(
    services: CoreServices,
    caller: Reader,
    filters: Filters,
    limit: Limit = 50,
    cursor: str | None = None,
) -> DeadLetterGroupList:
    """Return groups by task, error type and origin, the one with the newest letter first."""
    scope = ("dead letter groups", caller.tenant, filters)
    place = open_cursor(cursor, scope)
    page = await services.dead_letters.groups(filters, limit, place, caller)
    return DeadLetterGroupList(
        items=[group_view(row) for row in page.items],
        next_cursor=seal_cursor(page.next_cursor, scope),
    )


@router.get("/{dead_letter_id}")
async def get_dead_letter(
    dead_letter_id: LetterId, services: CoreServices, caller: Reader, request: Request
) -> DeadLetter:
    """Return one dead letter with its message, its run and the runs that were made again of it."""
    letters = services.dead_letters
    row = await letters.get(dead_letter_id, caller)
    return letter_view(row, await letters.run_of(row), await letters.replays_of(row), request)


@router.post(
    "/{dead_letter_id}/replay",
    status_code=202,
    response_model=AcceptedRun,
    response_model_exclude_defaults=True,
    responses=_CONFLICT,
    openapi_extra={"parameters": _ONE_PARAMETER},
)
async def replay_dead_letter(
    *,
    dead_letter_id: LetterId,
    body: ReplayBody | None = None,
    services: CoreServices,
    caller: LetterManager,
    key: IdempotencyKey,
    request: Request,
    response: Response,
) -> AcceptedRun | Response:
    """Run it again, with other parameters when `params` is given; a letter is replayed once.

    The same `Idempotency-Key` with the same body gets the first answer again.
    """
    wish = body or ReplayBody()
    with in_body():
        accepted = await services.dead_letters.replay(
            dead_letter_id,
            caller,
            trace=current_trace() or new_trace(),
            params=wish.params,
            reason=wish.reason,
            idempotency_key=key,
        )
    return await answer_accepted(accepted, request, response, services=services, caller=caller)


@router.post(
    "/replay",
    status_code=202,
    responses={200: {"model": ReplayedLetters, "description": "The count of a dry run"}},
)
async def replay_dead_letters(
    body: ReplayManyBody,
    services: CoreServices,
    caller: LetterManager,
    request: Request,
    response: Response,
) -> ReplayedLetters:
    """Run every open letter that matches again, oldest first, as one batch of runs.

    A call that broke off is repeated as it is: it takes what is still open.
    """
    with in_body():
        done = await services.dead_letters.replay_all(
            body.filter.filters(),
            caller,
            trace=current_trace() or new_trace(),
            rate_per_second=body.rate_per_second,
            reason=body.reason,
            dry_run=body.dry_run,
        )
    links = {}
    if done.batch_id is not None:
        links["runs"] = path_to(request, f"tasks?batch_id={done.batch_id}")
    if body.dry_run:
        response.status_code = 200
    return ReplayedLetters(
        dry_run=body.dry_run,
        count=done.count,
        batch_id=done.batch_id,
        skipped=dict(done.skipped),
        links=links,
    )


@router.delete("/{dead_letter_id}", status_code=204)
async def discard_dead_letter(
    dead_letter_id: LetterId,
    services: CoreServices,
    caller: LetterManager,
    reason: Annotated[Reason | None, Query()] = None,
) -> None:
    """Put it aside: it leaves the lists and is kept until its retention ends."""
    await services.dead_letters.discard(dead_letter_id, caller, reason=reason)


@router.post("/discard")
async def discard_dead_letters(
    body: DiscardManyBody, services: CoreServices, caller: LetterManager
) -> DiscardedLetters:
    """Put every letter that matches aside, open or replayed; say why."""
    count = await services.dead_letters.discard_all(
        body.filter.filters(), caller, reason=body.reason, dry_run=body.dry_run
    )
    return DiscardedLetters(dry_run=body.dry_run, count=count)
