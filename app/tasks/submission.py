"""Submission: from a request to a durable row, exactly once per idempotency key."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Row

from app.common import failpoints
from app.common.errors import Forbidden
from app.common.tracing import TraceContext
from app.config.settings import APPLICATION_BIND, Settings
from app.db import Databases
from app.tasks.catalogue import Catalogue, CatalogueEntry
from app.tasks.idempotency import KeyUse, claim_key, earlier_run, in_flight, let_stand_for
from app.tasks.insertion import insert_run
from app.tasks.making import RunMaker
from app.tasks.outbox import Outbox
from app.tasks.requests import Caller, NewRun, RunRequest
from app.tasks.run_writer import RunWriter
from app.tasks.transport import seconds_until


@dataclass(frozen=True)
class Submitted:
    """An accepted run. `replayed` tells that an earlier request with the same idempotency key made
    it, `deduplicated` that an equal run was there and stands for a unique one.
    """

    task_id: str
    task: str
    status: str
    created_at: datetime
    replayed: bool
    deduplicated: bool = False


class Submission:
    """Accepts runs: one commit with the idempotency record and the first event, then the outbox."""

    def __init__(
        self,
        databases: Databases,
        catalogue: Catalogue,
        maker: RunMaker,
        outbox: Outbox,
        settings: Settings,
    ) -> None:
        self._databases = databases
        self._catalogue = catalogue
        self._maker = maker
        self._outbox = outbox
        self._writer = RunWriter(databases, outbox)
        self._keep_keys_seconds = settings.retention.idempotency_seconds

    async def submit(
        self,
        request: RunRequest,
        *,
        principal: Caller,
        trace: TraceContext,
        idempotency_key: str | None = None,
        endpoint: str = "tasks/run",
        asked: RunRequest | None = None,
    ) -> Submitted:
        """Return the accepted run; when this returns it is durable.

        `asked` is what a repeated request must equal, when the request itself is made of more.
        Raises TaskNotRegistered, Forbidden, InvalidParams, InvalidOptions,
        ParamsTooLarge, InvalidIdempotencyKey, IdempotencyKeyReused, RunAlreadyExists.
        """
        use = None
        if idempotency_key is not None:
            use = KeyUse.of([asked or request], principal, endpoint, idempotency_key)
            # Looked for before anything is checked: what was accepted once stays accepted, even
            # when its `expires_at` has passed or its task is gone by now.
            async with self._databases.autocommit(APPLICATION_BIND) as reader:
                earlier = await earlier_run(reader, use)
            if earlier is not None:
                return _submitted(earlier, replayed=True)
        entry = await self._catalogue.get(request.task)
        check_scope(entry, principal)
        run = self._maker.make(
            entry,
            request,
            created_by=principal.id,
            tenant=principal.tenant,
            trace_id=trace.trace_id,
        )
        if use is None and not run.unique_for_seconds:
            written = await self._writer.write(run)
            return Submitted(
                run.id, entry.name, run.row["status"], written.created_at, replayed=False
            )
        return await self._write_once(run, use, principal)

    async def close(self) -> None:
        """Finish what is being written."""
        await self._writer.close()

    async def _write_once(self, run: NewRun, use: KeyUse | None, principal: Caller) -> Submitted:
        """Write a run unless its idempotency key or an equal run stands for it."""
        async with self._databases.begin(APPLICATION_BIND) as connection:
            if use is not None:
                if not await claim_key(connection, use, run.id, self._keep_keys_seconds):
                    earlier = await earlier_run(connection, use)
                    if earlier is None:
                        raise in_flight()
                    return _submitted(earlier, replayed=True)
                run.row["idempotency_key"] = use.key
            row = await insert_run(connection, run, actor=principal.id)
            if row.id != run.id and use is not None:
                await let_stand_for(connection, use, row.id, {"status": row.status})
            failpoints.hit("submission.before_commit")
        failpoints.hit("submission.after_commit")
        if row.id != run.id:
            return _submitted(row, replayed=False, deduplicated=True)
        self._outbox.offer([run.wakeup(seconds_until(row.scheduled_for, row.now))])
        return _submitted(row, replayed=False)


def check_scope(entry: CatalogueEntry, principal: Caller) -> None:
    """Raise Forbidden when the task asks for a scope of its own that the caller lacks."""
    scope = entry.spec.options.required_scope
    if scope is not None and not principal.allows(scope):
        raise Forbidden(f"The task '{entry.name}' needs the scope '{scope}'.")


def _submitted(row: Row[Any], *, replayed: bool, deduplicated: bool = False) -> Submitted:
    # Of an equal run the key remembers how it stood when it was answered.
    answer = row.answer if replayed else None
    return Submitted(
        task_id=row.id,
        task=row.task,
        status=answer["status"] if answer else row.status,
        created_at=row.created_at,
        replayed=replayed,
        deduplicated=deduplicated or answer is not None,
    )
