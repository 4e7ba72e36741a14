"""Tasks that can be run: listing them, and deriving new ones from them."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.api.dependencies import CoreServices, Manager, Reader
from app.api.faults import in_body
from app.api.links import path_to
from app.api.schemas import RegisteredTask, RegisteredTaskList, RegisterTaskBody
from app.auth.principal import Principal
from app.tasks.catalogue import CatalogueEntry
from app.tasks.errors import TaskNotRegistered

router = APIRouter(prefix="/tasks", tags=["registry"])

Name = Annotated[str, Path(description="The task's name, like `text.count_words`.")]


@router.get("/registered")
async def list_registered_tasks(services: CoreServices, caller: Reader) -> RegisteredTaskList:
    """Return every task that the caller may know of, by name."""
    entries = [entry for entry in await services.catalogue.list() if _may_see(entry, caller)]
    return RegisteredTaskList(items=[RegisteredTask.of(entry) for entry in entries])


@router.get("/registered/{name}")
async def get_registered_task(name: Name, services: CoreServices, caller: Reader) -> RegisteredTask:
    """Return one task."""
    entry = await services.catalogue.get(name)
    if not _may_see(entry, caller):
        raise TaskNotRegistered(f"No task is called '{name}'.")
    return RegisteredTask.of(entry)


@router.post("/register", status_code=201)
async def register_task(
    body: RegisterTaskBody,
    services: CoreServices,
    caller: Manager,
    request: Request,
    response: Response,
) -> RegisteredTask:
    """Store a derived task; it is usable at once in every process. No code travels."""
    with in_body():
        entry = await services.catalogue.register(
            name=body.name,
            base_task=body.base_task,
            created_by=caller.id,
            description=body.description,
            params=body.params,
            options=body.options,
        )
    response.headers["Location"] = path_to(request, f"tasks/registered/{entry.name}")
    return RegisteredTask.of(entry)


@router.delete("/registered/{name}", status_code=204)
async def delete_registered_task(name: Name, services: CoreServices, _caller: Manager) -> None:
    """Forget a derived task; a task that code registers stays."""
    await services.catalogue.delete(name)


def _may_see(entry: CatalogueEntry, caller: Principal) -> bool:
    # A task that asks for its own scope is hidden from those who could not run it.
    scope = entry.spec.options.required_scope
    return scope is None or caller.allows(scope)
