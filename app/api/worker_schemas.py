"""The bodies of the worker routes: the fields that clients rely on."""

from typing import Annotated, Any

from pydantic import BaseModel, Field
from sqlalchemy.engine import Row

from app.api.moments import Moment
from app.api.schemas import StrictBody
from app.tasks.requests import Caller


class DrainBody(StrictBody):
    """Why a worker is drained or resumed; it goes into the audit log."""

    reason: Annotated[str, Field(min_length=1, max_length=1000)] | None = None


class Worker(BaseModel):
    """One worker. `active` are the runs that it is at, `alive` whether it was heard of lately."""

    name: str
    queues: list[str]
    concurrency: int
    active: int
    alive: bool
    started_at: Moment
    seen_at: Moment
    draining: bool
    drained_at: Moment | None
    drained_by: str | None
    drain_reason: str | None

    @classmethod
    def of(cls, row: Row[Any], caller: Caller) -> "Worker":
        """Return the worker as the caller may see it: who drains it is not told to tenants."""
        is_operator = caller.tenant is None
        return cls(
            name=row.name,
            queues=row.queues,
            concurrency=row.concurrency,
            active=row.active,
            alive=row.is_alive,
            started_at=row.started_at,
            seen_at=row.seen_at,
            draining=row.drained_at is not None,
            drained_at=row.drained_at,
            drained_by=row.drained_by if is_operator else None,
            drain_reason=row.drain_reason if is_operator else None,
        )


class WorkerList(BaseModel):
    """Every worker, by name."""

    items: list[Worker]
    next_cursor: str | None = None
