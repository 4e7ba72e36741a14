"""What a Celery app of ours knows besides Celery's own configuration."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from celery import Celery

from app.celery_worker.topology import Topology
from app.config.settings import Settings
from app.tasks.agenda import Agenda
from app.tasks.execution import Disposition
from app.tasks.plain_calls import PlainCall
from app.tasks.services import Services
from app.tasks.transport import Transport

# What a wake-up runs as whose task this worker has no code for.
UNKNOWN_TASK: Final = "taskyard.unknown_task"

# Puts the services of one process or thread together around its own publisher.
ServicesFactory = Callable[[Transport], Services]


class Execution(Protocol):
    """Runs deliveries on the calling thread (`app.tasks.execution.Executor`)."""

    def execute(self, runner: asyncio.Runner, run_id: str) -> Disposition: ...

    def execute_many(self, runner: asyncio.Runner, run_ids: Sequence[str]) -> list[Disposition]: ...

    def accept(self, runner: asyncio.Runner, call: PlainCall) -> Disposition: ...

    def execute_unknown(
        self, runner: asyncio.Runner, run_id: str, function: str
    ) -> Disposition: ...

    def can_cancel(self, run_id: str) -> bool: ...

    def cancel(self, run_id: str) -> None: ...


class Sweeping(Protocol):
    """What the rows need from time to time (`app.tasks.sweeper.Sweeper`)."""

    async def look(self) -> Agenda: ...

    async def sweep(self, found: Agenda) -> object: ...

    async def archive_dead_letter(self, facts: Mapping[str, Any]) -> None: ...


class Firing(Protocol):
    """What makes runs of schedules that are due (`app.tasks.firing.Firing`)."""

    async def begin(self) -> None: ...

    async def fire_due(self) -> int: ...


SweepingFactory = Callable[[Services], Sweeping]
FiringFactory = Callable[[Services], Firing]

# Makes the execution on the services of a process or thread, for a worker of the given name.
ExecutionFactory = Callable[[Services, str], Execution]


@dataclass(frozen=True, slots=True)
class Site:
    """One installation as its workers see it."""

    settings: Settings
    topology: Topology
    task_names: frozenset[str]
    queue_classes: tuple[str, ...]
    services_factory: ServicesFactory
    execution_factory: ExecutionFactory
    sweeping_factory: SweepingFactory
    firing_factory: FiringFactory
    # Whether a process runs its tasks itself, and may be killed for it (`supervisor`).
    is_supervised: bool = False


def attach(app: Celery, site: Site) -> None:
    """Make the site known to everything that has the app at hand."""
    app.taskyard_site = site  # type: ignore[attr-defined]  # Celery apps carry what extensions put there


def site_of(app: Any) -> Site:
    """Return the site of an app made by `create_celery`."""
    site: Site = app.taskyard_site
    return site
