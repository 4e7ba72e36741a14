"""Taskyard behind the same interface as the peers, in the environment of the product.

Its settings are those of a deployment on PostgreSQL, RabbitMQ and Redis (`bench.installation`);
the worker has two processes, none in reserve, and its queue is declared for tiny tasks, 64 at once.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import amqp
import psycopg
from sqlalchemy.engine import make_url

from app.celery_worker.delays import rung_for
from app.celery_worker.publisher import open_transport
from app.common.logging import configure_logging
from app.common.tracing import new_trace
from app.config import load_settings
from app.config.settings import APPLICATION_BIND
from app.main import migrate
from app.tasks.requests import RunOptions, RunRequest
from app.tasks.services import Services, open_services
from app.testing import Somebody
from bench.peers.adapter import PROCESSES, Adapter, tool

_AT_MOST = 10_000
_UNSENT = "SELECT count(*) FROM task_runs WHERE published_at IS NULL AND finished_at IS NULL"
_LATE = """
    SELECT
        extract(epoch FROM scheduled_for - created_at),
        extract(epoch FROM started_at - scheduled_for)
    FROM task_runs WHERE scheduled_for IS NOT NULL AND started_at IS NOT NULL
    ORDER BY started_at DESC LIMIT %s
"""


def rounding(delay_seconds: float) -> float:
    """Return by how much the ladder of delays makes a delay longer, in seconds."""
    left = delay_seconds
    while left > 0:
        left -= rung_for(left) / 1000
    return -left


class Taskyard(Adapter):
    """The services of one process, called without HTTP."""

    def __init__(self) -> None:
        self._settings = load_settings()
        configure_logging("ERROR", "json")
        # It runs all the time, as that of an API does: messages go out behind the answer.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="loop", daemon=True).start()
        self._services: Services | None = None

    def worker(self, profile: str) -> Sequence[str]:
        more = ("--profile", profile) if profile == "fast" else ()
        return [tool("taskyard"), "worker", "--concurrency", str(PROCESSES), *more]

    def prepare(self) -> None:
        migrate(self._settings)
        self._run(self._open())

    async def _open(self) -> None:
        self._services = open_services(self._settings, transport=open_transport(self._settings))

    def fill(self, count: int) -> None:
        services = self._opened()
        requests = [RunRequest(task="bench.nothing") for _ in range(count)]

        self._run(self._accept(services, requests))

    async def _accept(self, services: Services, requests: Sequence[RunRequest]) -> None:
        for start in range(0, len(requests), _AT_MOST):
            part = requests[start : start + _AT_MOST]
            await services.batches.submit(part, principal=Somebody(), trace=new_trace())
        await services.outbox.close()
        if unsent := self._count(_UNSENT):
            raise RuntimeError(f"{unsent} runs have no message")

    def stamped(self) -> None:
        self._run(self._submit_stamped(self._opened()))

    async def _submit_stamped(self, services: Services) -> None:
        request = RunRequest(task="bench.stamped", params={"sent_ns": time.monotonic_ns()})
        await services.submission.submit(request, principal=Somebody(), trace=new_trace())

    def delay(self, count: int, low: float, high: float) -> None:
        services = self._opened()
        now = time.monotonic_ns()
        delays = [low + (high - low) * number / count for number in range(count)]
        requests = [
            RunRequest(
                task="bench.stamped",
                params={"sent_ns": now + round(seconds * 1e9)},
                options=RunOptions(delay_seconds=seconds),
            )
            for seconds in delays
        ]
        self._run(self._accept(services, requests))

    def beyond_rounding(self, count: int) -> float:
        with self._database() as connection:
            rows = connection.execute(_LATE, [count]).fetchall()
        return max(1000 * (float(late) - rounding(float(delay))) for delay, late in rows)

    def outcomes(self) -> int:
        return self._count("SELECT count(*) FROM task_runs WHERE status = 'SUCCEEDED'")

    def clear(self) -> None:
        with self._database() as connection:
            connection.execute("TRUNCATE task_runs, task_run_events, batches CASCADE")
        url = self._settings.celery.broker_url.get_secret_value()
        purge(url, self._settings.celery.queue_prefix + self._settings.celery.default_queue)

    def remove(self) -> None:
        self._run(self._opened().close())

    def _opened(self) -> Services:
        if self._services is None:
            raise RuntimeError("prepare comes first")
        return self._services

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _count(self, query: str) -> int:
        with self._database() as connection:
            row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def _database(self) -> psycopg.Connection[Any]:
        url = make_url(self._settings.databases[APPLICATION_BIND].url.get_secret_value())
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(plain, autocommit=True)


def purge(url: str, queue: str) -> None:
    """Throw the messages of a queue away."""
    parts = make_url(url)
    connection: Any = amqp.Connection(
        host=f"{parts.host}:{parts.port or 5672}",
        userid=parts.username or "guest",
        password=parts.password or "guest",
        virtual_host=(parts.database or "").replace("%2F", "/") or "/",
    )
    connection.connect()
    try:
        with contextlib.suppress(amqp.NotFound):
            connection.channel().queue_purge(queue)
    finally:
        connection.close()


def open_adapter() -> Adapter:
    return Taskyard()
