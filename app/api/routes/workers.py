"""Workers: who is there, and letting one take no more work."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from app.api.dependencies import CoreServices, Manager, Reader
from app.api.worker_schemas import DrainBody, Worker, WorkerList

router = APIRouter(prefix="/workers", tags=["workers"])

WorkerName = Annotated[str, Path(description="The worker's name, like `worker-7@host`.")]
_ABSENT: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such worker"}}


@router.get("")
async def list_workers(services: CoreServices, caller: Reader) -> WorkerList:
    """Return every worker that was heard of within a day, by name."""
    rows = await services.workers.list()
    return WorkerList(items=[Worker.of(row, caller) for row in rows])


@router.post("/{name}/drain", responses=_ABSENT)
async def drain_worker(
    name: WorkerName, services: CoreServices, caller: Manager, body: DrainBody | None = None
) -> Worker:
    """Let the worker take no more work and end what it is at; what it had not begun goes back.

    It holds until somebody resumes the worker, or until it is started again.
    """
    row = await services.workers.drain(name, caller, reason=(body or DrainBody()).reason)
    return Worker.of(row, caller)


@router.post("/{name}/resume", responses=_ABSENT)
async def resume_worker(
    name: WorkerName, services: CoreServices, caller: Manager, body: DrainBody | None = None
) -> Worker:
    """Let the worker take work again."""
    row = await services.workers.resume(name, caller, reason=(body or DrainBody()).reason)
    return Worker.of(row, caller)
