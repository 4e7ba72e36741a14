"""What one process holds: settings, plugins, databases, cache, storage, transport, and the services
on them.
"""

from dataclasses import dataclass

from pydantic import BaseModel

from app.common.errors import ConfigurationError
from app.config.nearest import nearest
from app.config.plugins import LoadedPlugin, load_plugins
from app.config.settings import Settings
from app.db import Databases, install
from app.redis import CacheClient, open_cache
from app.storage import Storage, open_storage
from app.tasks.batches import Batches
from app.tasks.catalogue import Catalogue, entry_of
from app.tasks.dead_letters import DeadLetters
from app.tasks.explaining import Explainer
from app.tasks.hot_runs import HotRuns
from app.tasks.limiting import Limiter
from app.tasks.making import RunMaker
from app.tasks.outbox import Outbox
from app.tasks.plain_calls import PlainCalls
from app.tasks.queue_levels import QueueLevels
from app.tasks.queues import Queues
from app.tasks.registry import Registry, build_registry
from app.tasks.replaying import ReplayMaker
from app.tasks.requests import NewRun, RunRequest
from app.tasks.reruns import Reruns
from app.tasks.runs import Runs
from app.tasks.schedules import Schedules
from app.tasks.submission import Submission
from app.tasks.transport import Transport
from app.tasks.workers import Workers


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts of a process, put together once by `open_services` and closed at its end."""

    settings: Settings
    plugins: tuple[LoadedPlugin, ...]
    plugin_settings: dict[str, BaseModel | None]
    registry: Registry
    databases: Databases
    cache: CacheClient
    storage: Storage
    transport: Transport
    outbox: Outbox
    limiter: Limiter
    catalogue: Catalogue
    maker: RunMaker
    submission: Submission
    batches: Batches
    reruns: Reruns
    plain_calls: PlainCalls
    runs: Runs
    dead_letters: DeadLetters
    schedules: Schedules
    queue_levels: QueueLevels
    queues: Queues
    workers: Workers
    explainer: Explainer
    hot_runs: HotRuns

    @property
    def derived(self) -> Catalogue:
        """The keeper of derived tasks."""
        return self.catalogue

    def new_run(
        self, request: RunRequest, *, created_by: str, tenant: str | None, trace_id: str
    ) -> NewRun:
        """Return the checked run for a child that a task submits; the task must be one of code."""
        entry = entry_of(self.registry.get(request.task))
        return self.maker.make(
            entry, request, created_by=created_by, tenant=tenant, trace_id=trace_id
        )

    async def close(self) -> None:
        """Finish what was submitted or offered to the outbox and let go of every connection of
        this event loop.
        """
        await self.submission.close()
        await self.outbox.close()
        await self.transport.close()
        await self.cache.close()
        await self.storage.close()
        self.hot_runs.close()
        await self.databases.dispose()


Code = tuple[tuple[LoadedPlugin, ...], Registry]


def load_code(settings: Settings) -> Code:
    """Return the plugins that the settings name and the registry of their tasks; errors name the
    plugin.
    """
    plugins = load_plugins(settings.plugins)
    celery = settings.celery
    return plugins, build_registry(plugins, (celery.default_queue, *celery.queues))


def _plugin_settings(
    settings: Settings, plugins: tuple[LoadedPlugin, ...]
) -> dict[str, BaseModel | None]:
    names = [plugin.name for plugin in plugins]
    for name in settings.plugin_settings:
        if name not in names:
            near = nearest(name, names)
            advice = f" Did you mean 'plugin_settings.{near}'?" if near else ""
            raise ConfigurationError(
                f"plugin_settings.{name} is set, but no plugin of that name is loaded.{advice}"
            )
    return {
        plugin.name: plugin.settings(settings.plugin_settings.get(plugin.name, {}))
        for plugin in plugins
    }


def open_services(
    settings: Settings, *, transport: Transport, code: Code | None = None
) -> Services:
    """Put the parts of a process together. Nothing connects before it is used.

    `code` is what `load_code` returned, for a process that opens services more than once.
    """
    plugins, registry = code or load_code(settings)
    plugin_settings = _plugin_settings(settings, plugins)
    databases = Databases(settings.databases)
    install(databases)
    storage = open_storage(settings.storage)
    outbox = Outbox(databases, transport)
    catalogue = Catalogue(databases, registry)
    limiter = Limiter(databases, registry, outbox)
    queues = Queues(databases, transport, registry.queues())
    maker = RunMaker(settings, registry.queues())
    submission = Submission(databases, catalogue, maker, outbox, settings)
    runs = Runs(databases)
    return Services(
        settings=settings,
        plugins=plugins,
        plugin_settings=plugin_settings,
        registry=registry,
        databases=databases,
        cache=open_cache(settings.redis),
        storage=storage,
        transport=transport,
        outbox=outbox,
        limiter=limiter,
        catalogue=catalogue,
        maker=maker,
        submission=submission,
        batches=Batches(databases, catalogue, maker, outbox, settings),
        plain_calls=PlainCalls(databases, registry, maker, outbox),
        reruns=Reruns(runs, catalogue, maker, submission),
        runs=runs,
        dead_letters=DeadLetters(databases, ReplayMaker(catalogue, maker), outbox, settings),
        schedules=Schedules(databases, catalogue, maker, outbox),
        queue_levels=QueueLevels(databases, transport, registry.queues()),
        queues=queues,
        workers=Workers(databases, settings.celery.lease_seconds),
        explainer=Explainer(databases, registry, runs, queues, limiter),
        hot_runs=HotRuns(databases),
    )
