"""In-memory parts behind the ports of the worker side."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast

from app.celery_worker.site import Site
from app.celery_worker.topology import Topology
from app.common.tracing import current_trace_id
from app.config import Settings, load_settings
from app.tasks.agenda import Agenda
from app.tasks.execution import Disposition
from app.tasks.plain_calls import PlainCall
from app.tasks.services import Services
from app.tasks.transport import QueueLevel, Transport, Wakeup

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class StandInServices:
    """The two things that the worker side itself asks of services."""

    transport: Transport
    closed: bool = False
    databases: Any = None

    async def close(self) -> None:
        self.closed = True
        await self.transport.close()


@dataclass
class StandInTransport:
    confirms: bool = True
    sent: list[Wakeup] = field(default_factory=list)

    async def send(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        if not self.confirms:
            return frozenset()
        self.sent += wakeups
        return frozenset(wakeup.run_id for wakeup in wakeups)

    async def send_dead_letter(self, wakeup: Wakeup, error: Mapping[str, str]) -> bool:
        return self.confirms

    async def backlog(self, queues: Sequence[str]) -> Mapping[str, int]:
        return {}

    async def levels(self, queues: Sequence[str]) -> Mapping[str, QueueLevel]:
        return {}

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        return None


@dataclass
class StandInExecution:
    """Answers with what it was given; an exception is raised."""

    answer: Disposition | BaseException = Disposition.DONE
    runs: list[str] = field(default_factory=list)
    traces: list[str | None] = field(default_factory=list)
    coroutine: Callable[[], Any] | None = None
    cancellable: frozenset[str] = frozenset()
    cancelled: list[str] = field(default_factory=list)
    unknown: list[tuple[str, str]] = field(default_factory=list)
    calls: list[PlainCall] = field(default_factory=list)

    def accept(self, runner: asyncio.Runner, call: PlainCall) -> Disposition:
        self.calls.append(call)
        return self.execute(runner, call.run_id)

    def execute_unknown(self, runner: asyncio.Runner, run_id: str, function: str) -> Disposition:
        self.unknown.append((run_id, function))
        return self.execute(runner, run_id)

    def execute(self, runner: asyncio.Runner, run_id: str) -> Disposition:
        self.runs.append(run_id)
        self.traces.append(current_trace_id())
        if self.coroutine is not None:
            runner.run(self.coroutine())
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def execute_many(self, runner: asyncio.Runner, run_ids: Sequence[str]) -> list[Disposition]:
        return [self.execute(runner, run_id) for run_id in run_ids]

    def can_cancel(self, run_id: str) -> bool:
        return run_id in self.cancellable

    def cancel(self, run_id: str) -> None:
        self.cancelled.append(run_id)


@dataclass
class StandInSweeping:
    """Counts looks and sweeps and keeps letters; `fails` are raised one after the other."""

    sweeps: int = 0
    kept: list[Mapping[str, Any]] = field(default_factory=list)
    fails: list[Exception] = field(default_factory=list)
    refuses: int = 0
    looks: int = 0
    # A schedule is always due, and the next round is due after the interval.
    agenda: Agenda = field(default_factory=lambda: Agenda(now=NOW, term=1, fires_at=NOW))

    async def look(self) -> Agenda:
        self.looks += 1
        return self.agenda

    async def sweep(self, found: Agenda) -> None:
        assert found is self.agenda
        self.sweeps += 1
        if self.fails:
            raise self.fails.pop()

    async def archive_dead_letter(self, facts: Mapping[str, Any]) -> None:
        if self.refuses:
            self.refuses -= 1
            raise OSError("the database is away")
        self.kept.append(facts)


@dataclass
class StandInFiring:
    """Counts starts and rounds; what is in the lists is raised one after the other."""

    begun: int = 0
    rounds: int = 0
    begin_fails: list[Exception] = field(default_factory=list)
    fails: list[Exception] = field(default_factory=list)

    async def begin(self) -> None:
        self.begun += 1
        if self.begin_fails:
            raise self.begin_fails.pop()

    async def fire_due(self) -> int:
        self.rounds += 1
        if self.fails:
            raise self.fails.pop()
        return 0


@dataclass
class Yard:
    """A site whose parts are at hand for the test."""

    settings: Settings = field(default_factory=lambda: load_settings(environ={}))
    execution: StandInExecution = field(default_factory=StandInExecution)
    sweeping: StandInSweeping = field(default_factory=StandInSweeping)
    firing: StandInFiring = field(default_factory=StandInFiring)
    transport: Transport | None = None
    services: list[StandInServices] = field(default_factory=list)

    def make_services(self, transport: Transport) -> Services:
        opened = StandInServices(self.transport or transport)
        self.services.append(opened)
        return cast("Services", opened)

    @property
    def site(self) -> Site:
        return Site(
            self.settings,
            Topology.of(self.settings.celery),
            frozenset({"test.task"}),
            (self.settings.celery.default_queue,),
            self.make_services,
            lambda _services, _worker: self.execution,
            lambda _services: self.sweeping,
            lambda _services: self.firing,
        )
