"""Queues: how full they are, pausing and resuming them; and why a run waits."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from app.api.dependencies import CoreServices, Manager, Reader
from app.api.queue_schemas import ExplanationView, PauseBody, Queue, QueueList

router = APIRouter(prefix="/queues", tags=["queues"])
explain_router = APIRouter(prefix="/tasks", tags=["runs"])

QueueName = Annotated[str, Path(description="The queue's name, like `default`.")]
_ABSENT: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such queue"}}


@router.get("")
async def list_queues(services: CoreServices, caller: Reader) -> QueueList:
    """Return every class of queues, by name."""
    states = await services.queues.list()
    return QueueList(items=[Queue.of(state, caller) for state in states])


@router.post("/{name}/pause", responses=_ABSENT)
async def pause_queue(
    name: QueueName, services: CoreServices, caller: Manager, body: PauseBody | None = None
) -> Queue:
    """Let no worker take work from the queue; what runs ends, what waits keeps its order.

    It holds until somebody resumes the queue, whatever is restarted.
    """
    state = await services.queues.pause(name, caller, reason=(body or PauseBody()).reason)
    return Queue.of(state, caller)


@router.post("/{name}/resume", responses=_ABSENT)
async def resume_queue(
    name: QueueName, services: CoreServices, caller: Manager, body: PauseBody | None = None
) -> Queue:
    """Let the workers take work from the queue again."""
    state = await services.queues.resume(name, caller, reason=(body or PauseBody()).reason)
    return Queue.of(state, caller)


@explain_router.get("/{task_id}/explain")
async def explain_run(
    task_id: Annotated[str, Path(description="The run's id.")],
    services: CoreServices,
    caller: Reader,
) -> ExplanationView:
    """Return why the run is not running, in words and codes."""
    return ExplanationView.of(await services.explainer.explain(task_id, caller))
