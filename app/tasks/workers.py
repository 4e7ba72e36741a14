"""Workers as operators see them: who is there, what each is at, and which are drained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Update, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from app.common.errors import Forbidden
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now, db_now_plus
from app.tasks.audit import Change, write_audit
from app.tasks.errors import WorkerNotFound
from app.tasks.queues import pauses_in, read_pauses
from app.tasks.requests import Caller
from app.tasks.worker_models import WorkerPresence

_WORKER: Final = WorkerPresence.__table__.c
# A worker that was killed leaves its row; so long it can be seen that it was there.
_FORGOTTEN_AFTER_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker tells of itself; `active` are the runs that it is at."""

    name: str
    queues: Sequence[str]
    concurrency: int
    active: int


class Workers:
    """The workers of the installation; they are shared by all tenants."""

    def __init__(self, databases: Databases, silent_after_seconds: float) -> None:
        self._databases = databases
        self._silent_after = silent_after_seconds

    async def list(self) -> Sequence[Row[Any]]:
        """Return every worker by name, with `is_alive`: whether it was heard of lately."""
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            return (await connection.execute(self._seen.order_by(_WORKER.name))).all()

    async def get(self, name: str) -> Row[Any]:
        """Return one worker; WorkerNotFound when there is none of this name."""
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            found = await connection.execute(self._seen.where(_WORKER.name == name))
            row: Row[Any] | None = found.one_or_none()
        if row is None:
            raise WorkerNotFound(f"No worker is called {name[:100]!r}.")
        return row

    async def drain(self, name: str, caller: Caller, *, reason: str | None = None) -> Row[Any]:
        """Let the worker take no more work and end what it is at, until it is resumed or started
        again; a second drain changes nothing.

        Raises WorkerNotFound, and Forbidden for a caller who belongs to a tenant.
        """
        values = {"drained_at": db_now(), "drained_by": caller.id, "drain_reason": reason}
        drained = update(WorkerPresence).where(_WORKER.name == name, _WORKER.drained_at.is_(None))
        return await self._change("drain", name, caller, reason, drained.values(values))

    async def resume(self, name: str, caller: Caller, *, reason: str | None = None) -> Row[Any]:
        """Let the worker take work again; errors as for `drain`."""
        drained = update(WorkerPresence).where(
            _WORKER.name == name, _WORKER.drained_at.is_not(None)
        )
        return await self._change("resume", name, caller, reason, drained.values(_NOT_DRAINED))

    async def _change(
        self, verb: str, name: str, caller: Caller, reason: str | None, statement: Update
    ) -> Row[Any]:
        if caller.tenant is not None:
            raise Forbidden(
                "A worker is shared by all tenants.",
                hint="Ask an operator of the installation, whose account belongs to no tenant.",
            )
        change = Change(
            action=f"worker.{verb}", object_type="worker", object_id=name, reason=reason
        )
        async with self._databases.begin(APPLICATION_BIND) as connection:
            changed = await connection.execute(statement)
            if changed.rowcount:
                await write_audit(connection, caller, [change])
        return await self.get(name)

    @property
    def _seen(self) -> Any:
        is_alive = (_WORKER.seen_at > db_now_plus(-self._silent_after)).label("is_alive")
        return select(WorkerPresence.__table__, is_alive)


_NOT_DRAINED: Final[dict[str, Any]] = {
    "drained_at": None,
    "drained_by": None,
    "drain_reason": None,
}


def announce(databases: Databases, facts: WorkerFacts, *, is_new: bool) -> frozenset[str] | None:
    """Tell that the worker is there, and return what `pauses_of` does; it blocks, for the main
    process of a worker. One statement on PostgreSQL: an idle worker sends nothing more often.

    A new one is not drained, whatever was said of the one of its name before.
    """
    is_sqlite = databases.dialect(APPLICATION_BIND) == "sqlite"
    told = {
        "queues": list(facts.queues),
        "concurrency": facts.concurrency,
        "active": facts.active,
        "seen_at": db_now(),
    }
    fresh = {"started_at": db_now(), **_NOT_DRAINED} if is_new else {}
    row = (sqlite if is_sqlite else postgresql).insert(WorkerPresence)
    statement = row.values(name=facts.name, **told).on_conflict_do_update(
        index_elements=["name"], set_={**told, **fresh}
    )
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        if is_sqlite:
            connection.execute(statement)
            paused = read_pauses(connection, facts.name)
        else:
            paused = pauses_in(connection, statement.returning(_WORKER.drained_at))
        if is_new:
            forgotten = _WORKER.seen_at < db_now_plus(-_FORGOTTEN_AFTER_SECONDS)
            connection.execute(delete(WorkerPresence).where(forgotten))
        return paused


def leave(databases: Databases, name: str) -> None:
    """Tell that the worker has ended; it blocks."""
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        connection.execute(delete(WorkerPresence).where(_WORKER.name == name))
