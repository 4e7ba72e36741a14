"""The calls whose times must not grow with the table, on one database of a given size."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx2
from sqlalchemy import text

from app import register_task
from app.api.application import create_app
from app.api.cursors import seal_cursor
from app.api.services import ApiServices
from app.auth.identity import open_identity, open_tokens
from app.common.clock import rfc3339
from app.common.tracing import new_trace
from app.config import Settings
from app.config.settings import APPLICATION_BIND
from app.tasks.registry import Registry, spec_of
from app.tasks.requests import RunRequest
from app.tasks.run_lists import RunFilters, encode_place
from app.tasks.services import Services, open_services
from app.tasks.sweeper import Sweeper
from app.tasks.transitions import CANCEL_WAITING, CLAIM, apply
from app.testing import MemoryTransport, Somebody
from bench.generated_runs import BATCH, PARENT, TENANT, TRACE_OF_BATCH


@register_task("bench.nothing")
async def nothing() -> None:
    """Do nothing."""


Prepare = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Call:
    """A call, and what comes before it and is not timed; the call gets what that returned."""

    timed: Callable[[Any], Awaitable[object]]
    before: Prepare


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
            raise RuntimeError(f"{path} has only {len(answer.json()['items'])} items")

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

    async def claim(self, run_id: str) -> None:
        """Claim the run, as a worker does that got its message."""
        values = {"run_id": run_id, "worker": "bench:1", "lease_seconds": 60.0}
        if await apply(self.services.databases, CLAIM, values) is None:
            raise RuntimeError("the run was not claimed")

    async def cancel(self, run_id: str) -> None:
        """Cancel the run, which waits."""
        await apply(self.services.databases, CANCEL_WAITING, {"run_id": run_id})

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
        return alone(lambda: site.get(f"/tasks?{query}", tenant, 50 if full else 0))

    return {
        "submit": alone(site.submit),
        "claim": Call(site.claim, site.submit),
        "cancel": Call(site.cancel, site.submit),
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
        "one run": alone(lambda: site.get(f"/tasks/{one.run_id}")),
        "its events": alone(lambda: site.get(f"/tasks/{one.run_id}/events")),
        "sweep": alone(site.sweeper.sweep),
        "dead letters": alone(lambda: site.get("/dead-letters?limit=50", None, 50)),
        "dead letter groups": alone(lambda: site.get("/dead-letters/groups")),
    }


def alone(timed: Callable[[], Awaitable[object]]) -> Call:
    """Return a call that needs nothing before it."""
    return Call(lambda _: timed(), _nothing)


async def _nothing() -> None:
    pass
