"""A whole installation in one test process: real databases, a transport that only remembers."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.engine import Row

import app.auth.models  # noqa: F401 - its tables belong to the core's migrations
from app.common.tracing import new_trace
from app.config import Settings, load_settings
from app.config.plugins import Plugin
from app.config.settings import APPLICATION_BIND
from app.db import migrations
from app.tasks.execution import Disposition, Executor
from app.tasks.registry import Registry, spec_of
from app.tasks.requests import RunOptions, RunRequest
from app.tasks.services import Services, open_services
from app.tasks.submission import Submitted
from app.testing import MemoryTransport, Somebody

T = TypeVar("T")
TEST_PLUGIN = Plugin(name="test", version="1.0.0")


class Installation:
    """Services on real databases, driven step by step from a test without a running loop."""

    def __init__(self, settings: Settings, functions: Sequence[Callable[..., Any]]) -> None:
        self.transport = MemoryTransport()
        registry = Registry(
            [spec_of(function, "test") for function in functions], ("default", "slow")
        )
        self.services: Services = open_services(
            settings, transport=self.transport, code=((), registry)
        )
        self.runner = asyncio.Runner()
        self.executor = Executor(self.services, worker="worker-1")

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def submit(self, task: str, params: Mapping[str, Any] | None = None, **more: Any) -> Submitted:
        options = RunOptions(**more.pop("options", {}))
        key = more.pop("idempotency_key", None)
        caller = more.pop("caller", Somebody())
        request = RunRequest(task=task, params=dict(params or {}), options=options, **more)

        async def accept() -> Submitted:
            accepted = await self.services.submission.submit(
                request, principal=caller, trace=new_trace(), idempotency_key=key
            )
            await self.services.outbox.close()
            return accepted

        return self.run(accept())

    def deliver(self, run_id: str) -> Disposition:
        return self.executor.execute(self.runner, run_id)

    def row(self, run_id: str) -> Row[Any]:
        return self.run(self.services.runs.get(run_id, Somebody()))

    def events(self, run_id: str) -> list[tuple[str | None, str]]:
        rows = self.run(self.services.runs.events(run_id, Somebody()))
        return [(row.from_status, row.to_status) for row in rows]

    def sql(self, statement: str, **params: Any) -> list[Row[Any]]:
        async def execute() -> list[Row[Any]]:
            async with self.services.databases.begin(APPLICATION_BIND) as connection:
                result = await connection.execute(text(statement), params)
                return list(result.all()) if result.returns_rows else []

        return self.run(execute())

    def lose_lease(self, run_id: str) -> None:
        self.sql(
            "UPDATE task_runs SET lease_expires_at = :then WHERE id = :id",
            id=run_id if self.is_sqlite else _uuid(run_id),
            then="2001-01-01 00:00:00.000000" if self.is_sqlite else _long_ago(),
        )

    @property
    def is_sqlite(self) -> bool:
        return self.services.databases.dialect(APPLICATION_BIND) == "sqlite"

    def other_worker(self, name: str = "worker-2") -> Executor:
        return Executor(self.services, worker=name)

    def close(self) -> None:
        self.run(self.services.close())
        self.services.databases.dispose_sync()
        self.runner.close()


def settings_on(tmp_path: Path, *, postgres_url: str | None = None, **more: str) -> Settings:
    """Return the embedded settings below a folder, the application database perhaps elsewhere."""
    environ = dict(more)
    if postgres_url is not None:
        environ["TASKYARD_DATABASES__POSTGRES_MAIN__URL"] = postgres_url
    return load_settings(data_dir=tmp_path, environ=environ)


def migrate(settings: Settings) -> None:
    """Bring the core's tables to their newest revision."""
    from app.db import Databases

    databases = Databases(settings.databases)
    migrations.upgrade(databases, (), owner="core")
    databases.dispose_sync()


def free_port() -> int:
    """Return a port of the loopback address on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def read_all_told(settings: Settings, run_id: str) -> list[int]:
    """Return the numbers of all that is told of a run, from every table that tells of runs."""
    from app.db import Databases

    databases = Databases(settings.databases)
    tables = ("task_run_events", "task_run_logs", "task_run_progress")
    wanted = run_id if databases.dialect(APPLICATION_BIND) == "sqlite" else _uuid(run_id)
    with databases.sync_begin(APPLICATION_BIND) as connection:
        seqs = [
            seq
            for table in tables
            for seq in connection.execute(
                text(f"SELECT seq FROM {table} WHERE run_id = :id"), {"id": wanted}
            ).scalars()
        ]
    databases.dispose_sync()
    return sorted(seqs)


def _uuid(run_id: str) -> Any:
    import uuid

    return uuid.UUID(run_id)


def _long_ago() -> Any:
    from datetime import UTC, datetime

    return datetime(2001, 1, 1, tzinfo=UTC)


__all__ = ["Installation", "MemoryTransport", "Somebody", "migrate", "replace", "settings_on"]
