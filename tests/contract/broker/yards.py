"""A whole yard: database, broker, worker and beat, in one process or in three."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.engine import Row

from app.celery_worker import connections, inproc
from app.celery_worker.embedded import EmbeddedWorker
from app.celery_worker.publisher import open_transport
from app.celery_worker.topology import Topology, all_queues
from app.common.tracing import new_trace
from app.config import Settings, load_settings
from app.config.settings import APPLICATION_BIND
from app.tasks.requests import RunOptions, RunRequest
from app.tasks.services import open_services
from tests.harness import Somebody, migrate
from tests.services import Services

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
PROBE = "tests.contract.broker.probe"
ROOT = Path(__file__).parents[3]


class Yard:
    """What a client sees of an installation whose worker runs `probe`'s tasks."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topology = Topology.of(settings.celery)
        self.runner = asyncio.Runner()
        self.services = open_services(settings, transport=open_transport(settings))
        self.worker_pid: int | None = None

    def submit(self, task: str, params: dict[str, Any] | None = None, **options: Any) -> str:
        request = RunRequest(task=task, params=params or {}, options=RunOptions(**options))

        async def accept() -> str:
            accepted = await self.services.submission.submit(
                request, principal=Somebody(), trace=new_trace()
            )
            await self.services.outbox.close()
            return accepted.task_id

        return self.runner.run(accept())

    def row(self, run_id: str) -> Row[Any]:
        return self.runner.run(self.services.runs.get(run_id, Somebody()))

    def await_status(self, run_id: str, *statuses: str) -> Row[Any]:
        def ended() -> Row[Any] | None:
            row = self.row(run_id)
            return row if row.status in statuses else None

        return await_it(ended, lambda: repr(self.row(run_id)))

    def rename_function(self, run_id: str, name: str) -> None:
        """Let the run call another function, as if other code had accepted it."""
        statement = text("UPDATE task_runs SET function = :name WHERE CAST(id AS text) = :id")

        async def write() -> None:
            async with self.services.databases.begin(APPLICATION_BIND) as connection:
                await connection.execute(statement, {"name": name, "id": run_id})

        self.runner.run(write())

    def dead_letters(self) -> list[Row[Any]]:
        async def read() -> list[Row[Any]]:
            async with self.services.databases.begin(APPLICATION_BIND) as connection:
                rows = await connection.execute(text("SELECT * FROM dead_letters ORDER BY id"))
                return list(rows.all())

        return self.runner.run(read())

    @contextmanager
    def channel(self) -> Iterator[Any]:
        url = self.settings.celery.broker_url.get_secret_value()
        connection = connections.open_connection(url, timeout_seconds=5)
        try:
            yield connection.channel()
        finally:
            connection.close()

    def close(self) -> None:
        self.runner.run(self.services.close())
        self.runner.close()


def await_it(read: Callable[[], T | None], describe: Callable[[], str] = str) -> T:
    """Return what `read` returns as soon as it is something; fail when it takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (value := read()) is None:
        assert time.monotonic() < deadline, describe()
        time.sleep(0.05)
    return value


@contextmanager
def embedded_yard(folder: Path) -> Iterator[Yard]:
    """Everything in this process, on SQLite and `inproc://`."""
    name = f"taskyard-test-{secrets.token_hex(4)}"
    settings = load_settings(data_dir=folder, environ=environment(name, concurrency=1))
    migrate(settings)
    inproc.register()
    worker = EmbeddedWorker(settings)
    yard = Yard(settings)
    worker.start()
    try:
        yield yard
    finally:
        worker.stop()
        yard.close()


@contextmanager
def real_yard(folder: Path, services: Services, **more: str) -> Iterator[Yard]:
    """A worker and a beat as processes of their own, on Postgres and RabbitMQ."""
    name = f"taskyard-test-{secrets.token_hex(4)}"
    environ = {
        **environment(name, concurrency=1),
        "TASKYARD_CELERY__BROKER_URL": services.amqp_url,
        "TASKYARD_DATABASES__POSTGRES_MAIN__URL": services.create_database("postgres"),
        **more,
    }
    settings = load_settings(data_dir=folder, environ=environ)
    migrate(settings)
    yard = Yard(settings)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "log").open("w") as log:
            commands = (["worker", "-Q", "default", "-n", f"{name}@%h"], ["beat"])
            processes += [start(command, environ, folder, log) for command in commands]
        yard.worker_pid = processes[0].pid
        yield yard
        assert processes[0].poll() is None, (folder / "log").read_text()
    finally:
        for process in processes:
            stop(process)
        yard.close()
        delete_names(settings)


def open_yard(form: str, folder: Path, services: Services) -> AbstractContextManager[Yard]:
    """Return the yard of a form: `embedded`, `real`, or `tiny`, whose runs go in groups."""
    if form == "embedded":
        return embedded_yard(folder)
    tiny = {"TASKYARD_CELERY__TINY_QUEUES": '{"default": 16}'} if form == "tiny" else {}
    return real_yard(folder, services, **tiny)


def environment(name: str, *, concurrency: int) -> dict[str, str]:
    return {
        "TASKYARD_PLUGINS": json.dumps([PROBE]),
        "TASKYARD_CELERY__NAMESPACE": name,
        "TASKYARD_CELERY__QUEUE_PREFIX": f"{name}.",
        "TASKYARD_CELERY__CONCURRENCY": str(concurrency),
        "TASKYARD_CELERY__QUEUES": json.dumps(["slow"]),
        "TASKYARD_CELERY__DELIVERY_LIMIT": "5",
        "TASKYARD_CELERY__HEARTBEAT_SECONDS": "0.5",
        "TASKYARD_CELERY__LEASE_SECONDS": "3",
        "TASKYARD_CELERY__CANCEL_GRACE_SECONDS": "1",
        "TASKYARD_CELERY__SWEEP_INTERVAL_SECONDS": "0.2",
    }


def start(
    command: list[str], environ: dict[str, str], folder: Path, log: Any
) -> subprocess.Popen[bytes]:
    kept = ("PATH", "HOME", "COVERAGE_PROCESS_CONFIG")
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "app.celery_worker.celery_app", *command],
        cwd=ROOT,
        env={
            **{name: os.environ[name] for name in kept if name in os.environ},
            **environ,
            "TASKYARD_DATA_DIR": str(folder),
            "PYTHONPATH": str(ROOT),
        },
        stdout=log,
        stderr=log,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def delete_names(settings: Settings) -> None:
    """Delete the queues of both classes; delay queues expire by themselves."""
    topology = Topology.of(settings.celery)
    url = settings.celery.broker_url.get_secret_value()
    connection = connections.open_connection(url, timeout_seconds=5)
    channel: Any = connection.channel()
    for queue in all_queues(topology, ["default", "slow"]):
        channel.queue_delete(queue.name)
    for exchange in topology.exchanges():
        channel.exchange_delete(exchange.name)
    connection.close()
