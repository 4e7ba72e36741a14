"""An installation in memory: tasks run as in production, on a clock that a test moves."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.common.clock import clock_from
from app.common.tracing import new_trace
from app.config.plugins import LoadedPlugin, Plugin
from app.config.settings import APPLICATION_BIND, Settings
from app.storage.port import SyncStorage
from app.tasks.declaration import DECLARATION
from app.tasks.errors import TaskDeclarationError
from app.tasks.execution import Disposition, Executor
from app.tasks.firing import Firing
from app.tasks.models import TaskRun
from app.tasks.registry import Registry, TaskSpec, build_registry, spec_of
from app.tasks.requests import Caller, RunOptions, RunRequest
from app.tasks.schedule_models import StoredSchedule
from app.tasks.services import Services, open_services
from app.tasks.sweeper import Sweeper
from app.testing.callers import Somebody
from app.testing.clock import FrozenClock
from app.testing.databases import binds_of, place_databases, urls_below
from app.testing.dying import MortalRecorder
from app.testing.finding import find_plugin
from app.testing.runs import Run
from app.testing.transport import MemoryBroker

T = TypeVar("T")
_WORKER = "kit"
# A run that submits itself for ever would keep a test for ever.
_MOST_DELIVERIES = 10_000
_LATER = timedelta(seconds=5)


class Kit:
    """Submits, runs and shows tasks. `open_kit` makes one; the fixture `kit` too.

    Nothing happens by itself: `run` and `work` do what is due now, `advance` moves the
    clock and does on the way what falls due. No call sleeps. What happens to a run
    happens in the code of production: the checks of a submission, the claim, the one
    commit of the outcome, retries, dead letters, the sweeps of beat.
    """

    def __init__(self, services: Services, broker: MemoryBroker, clock: FrozenClock) -> None:
        self.services = services
        self.broker = broker
        self.clock = clock
        self._runner = asyncio.Runner()
        self._recorder = MortalRecorder(services.databases, _WORKER)
        self._executor = Executor(services, worker=_WORKER, recorder=self._recorder)
        self._firing = Firing(services)
        self._sweeper = Sweeper(services, lambda: clock.now().timestamp())

    def submit(
        self,
        task: str,
        params: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        labels: Mapping[str, str] | None = None,
        caller: Caller | None = None,
        **options: Any,
    ) -> Run:
        """Submit a run and return it without running it.

        `options` are those of `POST /tasks/run` (`delay_seconds`, `run_at`, `priority`, …).
        Raises what the API would answer: TaskNotRegistered, InvalidParams, InvalidOptions …
        """
        request = RunRequest(
            task=task,
            params=dict(params or {}),
            options=RunOptions(**options),
            labels=dict(labels or {}),
        )
        return Run(self.services, self.call(self._accept(request, caller, idempotency_key)))

    def run(self, task: str, params: Mapping[str, Any] | None = None, **options: Any) -> Run:
        """Submit a run, do all that is due now, and return the run.

        A run that waits for a retry or its time is returned as it stands; `advance` goes on.
        """
        run = self.submit(task, params, **options)
        self.work()
        return run

    def work(self, *, most: int = _MOST_DELIVERIES) -> int:
        """Do all that is due now, what it gives rise to included; return the number of
        deliveries. RuntimeError when there is no end of it after `most`.
        """
        for done in range(most):
            wakeup = self.broker.take()
            if wakeup is None:
                return done
            disposition = self._executor.execute(self._runner, wakeup.run_id)
            if disposition is Disposition.LATER:
                later = replace(wakeup, delay_seconds=_LATER.total_seconds())
                self.call(self.broker.send([later]))
        message = f"{most} deliveries without an end: a task submits itself for ever."
        raise RuntimeError(message)

    def advance(self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0) -> None:
        """Move the clock; retries, delayed runs, schedules and the sweeps of beat happen at their
        time.
        """
        target = self.clock.now() + timedelta(seconds=seconds, minutes=minutes, hours=hours)
        self._move_to(self.clock.now())
        while (stop := self._next_stop()) is not None and stop < target:
            self._move_to(stop)
        self._move_to(target)

    def lose_next_attempt(self) -> None:
        """Let the next attempt's worker die at the worst moment: the function has returned,
        nothing is committed.

        The run's lease ends `celery.lease_seconds` later; `advance` by more than that, and
        the run starts again, as after `kill -9`. The function's effects elsewhere happen twice.
        """
        self._recorder.dies_next = True

    def redeliver(self, run: Run) -> None:
        """Deliver the run's message once more, as a broker may at any time."""
        self._executor.execute(self._runner, run.id)
        self.work()

    def cancel(self, run: Run) -> None:
        """Cancel a run that waits, ask a running one to stop."""
        self.call(self.services.runs.cancel(run.id, Somebody()))

    def replay(self, run: Run, params: Mapping[str, Any] | None = None) -> Run:
        """Replay the dead letter of a run and return the new run."""
        letter = run.dead_letter
        if letter is None:
            message = f"{run!r} left no dead letter to replay."
            raise LookupError(message)
        return Run(self.services, self.call(self._replayed(letter.id, params)))

    @property
    def runs(self) -> list[Run]:
        """Every run, oldest first."""
        statement = select(TaskRun.id).order_by(TaskRun.id)
        with self.services.databases.sync_autocommit(APPLICATION_BIND) as connection:
            return [
                Run(self.services, run_id) for run_id in connection.execute(statement).scalars()
            ]

    @property
    def now(self) -> datetime:
        """The moment at which the clock stands, in UTC."""
        return self.clock.now()

    @property
    def storage(self) -> SyncStorage:
        """The files, in memory."""
        return self.services.storage.sync

    @contextmanager
    def session(self, bind: str) -> Iterator[Session]:
        """Yield a session to put rows there before a run, or to look at them after it; it commits
        at its end.
        """
        with self.services.databases.sync_transaction(bind) as session:
            yield session

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the kit's event loop and return what it returns (`kit.services.cache`
        for one).
        """
        return self._runner.run(coroutine)

    def begin(self) -> None:
        """Put the clock into the databases and the schedules of code in place; `open_kit` does
        it.
        """
        self.call(self._begin())

    def close(self) -> None:
        """Let go of everything; `open_kit` does it."""
        self.call(self.services.close())
        self.services.databases.dispose_sync()
        self._runner.close()

    def _move_to(self, moment: datetime) -> None:
        """Let the clock stand at a moment, and beat and the workers do what is due then."""
        self.clock.advance_to(moment)
        self.work()
        self.call(self._firing.fire_due())
        self.call(self._sweeper.sweep())
        self.work()

    def _next_stop(self) -> datetime | None:
        """Return the next moment at which a message or a schedule is due, None when none is."""
        due_at = StoredSchedule.__table__.c.next_fire_at
        statement = select(func.min(due_at)).where(due_at > self.clock.now())
        with self.services.databases.sync_autocommit(APPLICATION_BIND) as connection:
            moments = (connection.execute(statement).scalar(), self.broker.next_due())
        return min((moment for moment in moments if moment is not None), default=None)

    async def _begin(self) -> None:
        # Before any connection is opened: each one gets the clock at its start.
        for bind in self.services.databases.binds:
            self.clock.rule(self.services.databases.get_engine(bind).sync_engine)
            self.clock.rule(self.services.databases.get_sync_engine(bind))
        await self._firing.begin()

    async def _accept(self, request: RunRequest, caller: Caller | None, key: str | None) -> str:
        submitted = await self.services.submission.submit(
            request, principal=caller or Somebody(), trace=new_trace(), idempotency_key=key
        )
        await self.services.outbox.close()
        return submitted.task_id

    async def _replayed(self, letter_id: str, params: Mapping[str, Any] | None) -> str:
        letters = self.services.dead_letters
        submitted = await letters.replay(
            letter_id,
            params=None if params is None else dict(params),
            principal=Somebody(),
            trace=new_trace(),
            reason=None,
        )
        await self.services.outbox.close()
        return submitted.task_id


@contextmanager
def open_kit(
    *plugins: Plugin | ModuleType | str,
    tasks: Sequence[Callable[..., Any]] = (),
    settings: Mapping[str, Any] | None = None,
    start: datetime | None = None,
    jitter: bool = False,
) -> Iterator[Kit]:
    """Yield a kit with the tasks of the plugins (each a `PLUGIN`, its module, or a name as in the
    settings) and single functions besides.

    `settings` is what `settings.yaml` would hold, such as {"plugin_settings": {"mail": {…}}};
    no file and no variable of the environment is read. The clock starts at `start`. The
    random part of the backoff is left out unless `jitter`, so that a retry comes exactly
    when its backoff says.
    """
    _require_no_loop()
    loaded = tuple(find_plugin(plugin) for plugin in plugins)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskyard-kit-")))
        place_databases(folder, loaded)
        clock = FrozenClock(start)
        stack.callback(clock.close)
        stack.enter_context(clock_from(clock.now))
        chosen = _settings(folder, loaded, settings or {})
        broker = MemoryBroker(clock.now)
        registry = _registry(loaded, tasks, chosen, jitter=jitter)
        services = open_services(chosen, transport=broker, code=(loaded, registry))
        kit = Kit(services, broker, clock)
        stack.callback(kit.close)
        kit.begin()
        yield kit


def _settings(folder: Path, plugins: Sequence[LoadedPlugin], given: Mapping[str, Any]) -> Settings:
    ours: dict[str, Any] = {
        "data_dir": folder,
        "databases": urls_below(folder, binds_of(plugins)),
        "plugins": [plugin.module for plugin in plugins],
        "storage": {"url": "memory://"},
    }
    return Settings.model_validate({**given, **ours})


def _registry(
    plugins: Sequence[LoadedPlugin],
    tasks: Sequence[Callable[..., Any]],
    settings: Settings,
    *,
    jitter: bool,
) -> Registry:
    queues = (settings.celery.default_queue, *settings.celery.queues)
    specs = [*build_registry(plugins).specs(), *(_spec_of(task) for task in tasks)]
    if not jitter:
        specs = [replace(spec, options=replace(spec.options, jitter=0.0)) for spec in specs]
    return Registry(specs, queues)


def _spec_of(task: Callable[..., Any]) -> TaskSpec:
    declared = getattr(task, DECLARATION, None)
    if declared is None:
        raise TaskDeclarationError(
            f"{getattr(task, '__qualname__', task)} is no task.",
            hint="Decorate it with @register_task('plugin.verb_noun').",
        )
    return spec_of(task, declared.name.partition(".")[0])


def _require_no_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    message = "The kit runs an event loop of its own: use it in a `def` test, not in `async def`."
    raise RuntimeError(message)
