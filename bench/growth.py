"""Do the calls stay as fast with a million runs as with ten thousand?

`make bench-growth` makes two scratch databases beside the one that TASKYARD_BENCH_POSTGRES_URL
names (by default the `postgres` of this machine), times every call on both, one after the other,
and prints both medians and their ratio. Nothing is left behind, unless --keep.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app import register_task
from app.api.application import create_app
from app.api.cursors import seal_cursor
from app.api.services import ApiServices
from app.auth.identity import open_identity, open_tokens
from app.common.clock import rfc3339
from app.common.logging import configure_logging
from app.common.tracing import new_trace
from app.config import Settings, load_settings
from app.config.settings import APPLICATION_BIND
from app.tasks.registry import Registry, spec_of
from app.tasks.requests import RunRequest
from app.tasks.run_lists import RunFilters, encode_place
from app.tasks.services import Services, open_services
from app.tasks.sweeper import Sweeper
from app.tasks.transitions import CANCEL_WAITING, CLAIM, apply
from app.testing.transport import MemoryTransport
from bench.generated_runs import BATCH, PARENT, TENANT, TRACE_OF_BATCH, generate

DEFAULT_URL = "postgresql+asyncpg://postgres@127.0.0.1:5432/postgres"
Call = Callable[[], Awaitable[object]]


@register_task("bench.nothing")
async def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Somebody:
    """A caller with every scope."""

    id: str = "bench"
    tenant: str | None = None

    def allows(self, scope: str) -> bool:
        """Allow everything."""
        return bool(scope)


def _busy_transport() -> MemoryTransport:
    """Return a broker that has the messages of what waits, so that no sweep sends them again."""
    return MemoryTransport(backlogs={f"queue_{number}": 100 for number in range(4)})


class Site:
    """The application on one of the databases, called in this process."""

    def __init__(self, settings: Settings) -> None:
        registry = Registry([spec_of(nothing, "bench")], ("default",))
        self.services: Services = open_services(
            settings, transport=_busy_transport(), code=((), registry)
        )
        tokens = open_tokens(settings)
        self._identity = open_identity(settings, self.services.databases, tokens)
        app = create_app(ApiServices(core=self.services, identity=self._identity, tokens=tokens))
        self._http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://bench/api/v1"
        )
        self._tokens: dict[str | None, str] = {}
        self.sweeper = Sweeper(self.services)

    async def prepare(self) -> None:
        """Make the two callers and warm everything up."""
        for name, tenant in (("bench", None), ("tenant", TENANT)):
            await self._identity.create_user(name, "a password", "operator", tenant=tenant)
            self._tokens[tenant] = await self._identity.issue_for(name)

    async def get(self, path: str, tenant: str | None = None, least: int = 0) -> None:
        """Call the API; the answer has at least so many items."""
        headers = {"Authorization": f"Bearer {self._tokens[tenant]}"}
        answer = await self._http.get(path, headers=headers)
        answer.raise_for_status()
        if len(answer.json().get("items", ())) < least:
            message = f"{path} has only {len(answer.json()['items'])} items"
            raise RuntimeError(message)

    async def row(self, sql: str) -> Any:
        """Return the first row of a query."""
        async with self.services.databases.autocommit(APPLICATION_BIND) as connection:
            return (await connection.execute(text(sql))).first()

    async def submit(self) -> str:
        """Accept a run and return its id."""
        accepted = await self.services.submission.submit(
            RunRequest(task="bench.nothing"), principal=Somebody(), trace=new_trace()
        )
        return accepted.task_id

    async def life(self) -> None:
        """Accept a run, claim it, and let it wait no more."""
        run_id = await self.submit()
        values = {"run_id": run_id, "worker": "bench:1", "lease_seconds": 60.0}
        if await apply(self.services.databases, CLAIM, values) is None:
            message = "the run was not claimed"
            raise RuntimeError(message)

    async def cancel(self) -> None:
        """Accept a run and cancel it."""
        await apply(self.services.databases, CANCEL_WAITING, {"run_id": await self.submit()})

    async def close(self) -> None:
        """Let go of everything."""
        await self._http.aclose()
        self._identity.close()
        await self.services.close()


async def calls_of(site: Site, rows: int) -> dict[str, Call]:
    """Return the calls by name; what they look for lies at the same share of the table."""
    middle = await site.row(
        f"SELECT id, created_at FROM task_runs ORDER BY created_at OFFSET {rows // 2} LIMIT 1"  # noqa: S608 - a number
    )
    one = await site.row("SELECT run_id FROM task_run_events LIMIT 1")
    place = encode_place(middle.created_at, str(middle.id))
    deep = seal_cursor(place, (None, RunFilters(statuses=[])))
    before = rfc3339(middle.created_at)

    def listed(query: str, *, tenant: str | None = None, full: bool = True) -> Call:
        return lambda: site.get(f"/tasks?{query}", tenant, 50 if full else 0)

    return {
        "first page": listed("limit=50"),
        "deep page": listed(f"limit=50&cursor={deep}"),
        "created_before the middle": listed(f"created_before={before}"),
        "status": listed("status=FAILED"),
        "status, deep": listed(f"status=FAILED&created_before={before}"),
        "status and label": listed("status=SUCCEEDED&label.team=team-1"),
        "status and rare label": listed("status=SUCCEEDED&label.customer=customer-42"),
        "status and a label of none": listed("status=SUCCEEDED&label.customer=nobody", full=False),
        "two labels": listed("label.customer=customer-42&label.team=team-1", full=False),
        "label alone": listed("label.team=team-1"),
        "status and label, deep": listed(
            f"status=SUCCEEDED&label.team=team-1&created_before={before}"
        ),
        "three statuses": listed("status=FAILED&status=CANCELLED&status=RUNNING"),
        "task": listed("task=plugin.task_3"),
        "task and status, few": listed("task=plugin.task_3&status=EXPIRED", full=False),
        "task and status, none": listed("task=no.such_task&status=FAILED", full=False),
        "queue and status": listed("queue=queue_1&status=FAILED", full=False),
        "batch_id": listed(f"batch_id={BATCH}"),
        "parent_id": listed(f"parent_id={PARENT}"),
        "trace_id": listed(f"trace_id={TRACE_OF_BATCH}"),
        "a tenant's first page": listed("limit=50", tenant=TENANT),
        "a tenant's status": listed("status=SUCCEEDED", tenant=TENANT),
        "a tenant's task": listed("task=plugin.task_4", tenant=TENANT),
        "search, found": listed("q=task_3"),
        "search, not found": listed("q=nowhere", full=False),
        "one run": lambda: site.get(f"/tasks/{one.run_id}"),
        "its events": lambda: site.get(f"/tasks/{one.run_id}/events"),
        "submit and claim": site.life,
        "submit and cancel": site.cancel,
        "sweep": site.sweeper.sweep,
        "dead letters": lambda: site.get("/dead-letters?limit=50", None, 50),
        "dead letter groups": lambda: site.get("/dead-letters/groups"),
    }


async def measure(
    small: tuple[Settings, int], large: tuple[Settings, int], repeats: int
) -> list[tuple[str, float, float]]:
    """Return name, milliseconds on the small one and on the large one, each a median."""
    sites = [Site(small[0]), Site(large[0])]
    for site in sites:
        await site.prepare()
    calls = [
        await calls_of(site, rows) for site, rows in zip(sites, (small[1], large[1]), strict=True)
    ]
    results = []
    for name in calls[0]:
        times: tuple[list[float], list[float]] = ([], [])
        for turn in range(repeats + 3):
            for which in (0, 1):
                started = time.perf_counter()
                await calls[which][name]()
                if turn >= 3:  # The first ones open connections and plan statements.
                    times[which].append((time.perf_counter() - started) * 1000)
        results.append((name, statistics.median(times[0]), statistics.median(times[1])))
        _tell(*results[-1])
    for site in sites:
        await site.close()
    return results


def _tell(name: str, small: float, large: float) -> None:
    print(f"{name:28} {small:9.2f} {large:9.2f} {large / small:7.2f}", flush=True)


@contextmanager
def scratch_database(server: str, name: str, *, keep: bool) -> Iterator[str]:
    """Yield the URL of an empty database beside the server's."""
    url = make_url(server)
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield url.set(database=name).render_as_string(hide_password=False)
        finally:
            if not keep:
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _settings(url: str, folder: Path) -> Settings:
    environ = {"TASKYARD_DATABASES__POSTGRES_MAIN__URL": url}
    return load_settings(data_dir=folder, embedded=False, environ=environ)


def main() -> int:
    """Measure and print; exit 1 when a call grows to more than `--most` times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--most", type=float, default=2.0)
    parser.add_argument("--keep", action="store_true", help="keep the databases")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()
    configure_logging("ERROR", "json")
    server = os.environ.get("TASKYARD_BENCH_POSTGRES_URL", DEFAULT_URL)
    with (
        tempfile.TemporaryDirectory() as folder,
        scratch_database(server, "taskyard_bench_small", keep=options.keep) as small_url,
        scratch_database(server, "taskyard_bench_large", keep=options.keep) as large_url,
    ):
        small, large = _settings(small_url, Path(folder)), _settings(large_url, Path(folder))
        for settings, rows in ((small, options.small), (large, options.large)):
            started = time.monotonic()
            generate(settings, rows)
            print(f"{rows} runs made in {time.monotonic() - started:.0f} s", flush=True)
        print(f"\n{'milliseconds, median':28} {options.small:>9} {options.large:>9}   ratio")
        sizes = (small, options.small), (large, options.large)
        results = asyncio.run(measure(*sizes, options.repeats))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    slow = [name for name, before, after in results if after > options.most * before]
    print(f"\n{len(slow)} of {len(results)} grow to more than {options.most:g} times", *slow)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
