"""Batches: many runs accepted in one commit, all or none; how they fare; cancelling them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.common import failpoints
from app.common.ids import new_id, parse_id
from app.common.tracing import TraceContext
from app.config.settings import APPLICATION_BIND, Settings
from app.db import Databases
from app.db.bulk import insert_rows
from app.db.types import db_now, db_now_plus
from app.tasks.batch_items import BatchItems
from app.tasks.cancelling import cancel_waiting
from app.tasks.catalogue import Catalogue
from app.tasks.errors import BatchNotFound
from app.tasks.idempotency import (
    KeyUse,
    claim_key,
    earlier_batch,
    in_flight,
    let_stand_for,
)
from app.tasks.insertion import first_event, insert_unique, release_keys
from app.tasks.making import RunMaker
from app.tasks.models import Batch, TaskRun, TaskRunEvent
from app.tasks.outbox import Outbox
from app.tasks.requests import Caller, NewRun, RunRequest
from app.tasks.run_lists import visible_to
from app.tasks.statuses import Status
from app.tasks.transport import Wakeup, seconds_until

ENDPOINT = "tasks/run/batch"
_BATCH = Batch.__table__.c
_RUN = TaskRun.__table__.c
_TABLE = cast("Table", TaskRun.__table__)
_EVENTS = cast("Table", TaskRunEvent.__table__)


@dataclass(frozen=True)
class SubmittedBatch:
    """An accepted batch: its id, and one run id per item in the order of the items.

    `deduplicated` counts the items for which an equal run stands; `replayed` as in `Submitted`.
    """

    batch_id: str
    task_ids: Sequence[str]
    deduplicated: int
    replayed: bool


@dataclass(frozen=True, kw_only=True)
class BatchState:
    """How the runs of a batch fare: `counts` has every status. An item that is `deduplicated`
    belongs to the batch, or to none, that its run was accepted with.
    """

    batch_id: str
    total: int
    deduplicated: int
    counts: Mapping[Status, int]
    created_by: str
    created_at: datetime


class Batches:
    """Accepts batches, counts and cancels them; each within the caller's tenant."""

    def __init__(
        self,
        databases: Databases,
        catalogue: Catalogue,
        maker: RunMaker,
        outbox: Outbox,
        settings: Settings,
    ) -> None:
        self._databases = databases
        self._items = BatchItems(catalogue, maker)
        self._outbox = outbox
        self._keep_keys_seconds = settings.retention.idempotency_seconds

    async def submit(
        self,
        requests: Sequence[RunRequest],
        *,
        principal: Caller,
        trace: TraceContext,
        idempotency_key: str | None = None,
    ) -> SubmittedBatch:
        """Return the accepted batch; when this returns every run is durable.

        Raises InvalidBatch or ParamsTooLarge with the place of each wrong item, Forbidden,
        InvalidIdempotencyKey, IdempotencyKeyReused; then nothing was accepted.
        """
        use = None
        if idempotency_key is not None:
            use = KeyUse.of(requests, principal, ENDPOINT, idempotency_key)
            async with self._databases.autocommit(APPLICATION_BIND) as reader:
                if (earlier := await _earlier(reader, use)) is not None:
                    return earlier
        batch_id = new_id()
        runs = await self._items.make(requests, batch_id, principal, trace.trace_id)
        is_unique = any(run.unique_for_seconds for run in runs)
        if is_unique:
            async with self._databases.autocommit(APPLICATION_BIND) as connection:
                await release_keys(connection, runs)
        async with self._databases.begin(APPLICATION_BIND) as connection:
            if use is not None and not await claim_key(
                connection, use, batch_id, self._keep_keys_seconds
            ):
                if (earlier := await _earlier(connection, use)) is None:
                    raise in_flight()
                return earlier
            written = await _write(connection, batch_id, runs, principal)
            if use is not None:
                await let_stand_for(connection, use, batch_id, written.answer)
            failpoints.hit("submission.before_commit")
        failpoints.hit("submission.after_commit")
        self._outbox.offer_many(written.wakeups)
        return SubmittedBatch(batch_id, written.task_ids, written.deduplicated, replayed=False)

    async def get(self, batch_id: str, principal: Caller) -> BatchState:
        """Return how the batch fares; BatchNotFound when there is none that the caller may see.

        A replay of dead letters by filter is a batch as well.
        """
        try:
            canonical = parse_id(batch_id)
        except ValueError:
            raise BatchNotFound("No batch has this id.") from None
        mine = and_(_RUN.batch_id == canonical, visible_to(principal))
        count = select(
            _RUN.status,
            func.count().label("runs"),
            func.min(_RUN.created_by).label("created_by"),
            func.min(_RUN.created_at).label("created_at"),
        )
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            batch = (
                await connection.execute(
                    select(*_BATCH).where(
                        _BATCH.id == canonical, _BATCH.tenant.is_not_distinct_from(principal.tenant)
                    )
                )
            ).one_or_none()
            groups = (await connection.execute(count.where(mine).group_by(_RUN.status))).all()
        if batch is None and not groups:
            raise BatchNotFound("No batch has this id.")
        counts = dict.fromkeys(Status, 0) | {Status(row.status): row.runs for row in groups}
        return BatchState(
            batch_id=canonical,
            total=sum(counts.values()) if batch is None else batch.total,
            deduplicated=0 if batch is None else batch.deduplicated,
            counts=counts,
            created_by=min(row.created_by for row in groups) if batch is None else batch.created_by,
            created_at=min(row.created_at for row in groups) if batch is None else batch.created_at,
        )

    async def cancel(self, batch_id: str, principal: Caller) -> BatchState:
        """Cancel the batch's runs that wait, ask those that run to stop; what ended stays."""
        batch = await self.get(batch_id, principal)
        mine = and_(_RUN.batch_id == batch.batch_id, visible_to(principal))
        await cancel_waiting(self._databases, mine, principal)
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            await connection.execute(
                update(TaskRun)
                .where(mine, _RUN.status == Status.RUNNING)
                .values(
                    cancel_requested_at=func.coalesce(_RUN.cancel_requested_at, db_now()),
                    updated_at=db_now(),
                )
            )
        return await self.get(batch_id, principal)


def batches_before(days: int) -> ColumnElement[bool]:
    """The condition on the batches that are so old and have no runs left."""
    empty = ~select(_RUN.id).where(_RUN.batch_id == _BATCH.id).exists()
    return and_(_BATCH.created_at < db_now_plus(-86_400.0 * days), empty)


async def forget_batches(databases: Databases, days: int, limit: int) -> None:
    """Delete up to `limit` batches that are so old and have no runs left."""
    old = select(_BATCH.id).where(batches_before(days))
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.execute(
            delete(Batch).where(Batch.id.in_(old.limit(limit).scalar_subquery()))
        )


@dataclass(frozen=True)
class _Written:
    """What one commit holds of a batch."""

    task_ids: list[str]
    deduplicated: int
    wakeups: list[Wakeup]

    @property
    def answer(self) -> dict[str, Any]:
        return {"task_ids": self.task_ids, "deduplicated": self.deduplicated}


async def _earlier(connection: AsyncConnection, use: KeyUse) -> SubmittedBatch | None:
    row = await earlier_batch(connection, use)
    if row is None:
        return None
    answer = row.answer
    return SubmittedBatch(row.batch_id, answer["task_ids"], answer["deduplicated"], replayed=True)


async def _write(
    connection: AsyncConnection, batch_id: str, runs: Sequence[NewRun], principal: Caller
) -> _Written:
    """Insert the batch, its runs and their first events."""
    now = (await connection.execute(select(db_now()))).scalar_one()
    read_at = time.monotonic()
    rows = {run.id: {**run.row, "scheduled_for": _due(run, now)} for run in runs}
    unique = [run for run in runs if run.unique_for_seconds]
    stands_for = await insert_unique(connection, unique, rows) if unique else {}
    plain = [rows[run.id] for run in runs if not run.unique_for_seconds]
    await insert_rows(connection, APPLICATION_BIND, _TABLE, plain)
    new = [run for run in runs if stands_for.get(run.id, run.id) == run.id]
    events = [first_event(run, principal.id) for run in new]
    await insert_rows(connection, APPLICATION_BIND, _EVENTS, events)
    batch = {
        "id": batch_id,
        "total": len(runs),
        "deduplicated": len(runs) - len(new),
        "created_by": principal.id,
        "tenant": principal.tenant,
        "trace_id": runs[0].row["trace_id"],
    }
    await connection.execute(insert(Batch), batch)
    now += timedelta(seconds=time.monotonic() - read_at)
    wakeups = [run.wakeup(seconds_until(rows[run.id]["scheduled_for"], now)) for run in new]
    return _Written([stands_for.get(run.id, run.id) for run in runs], len(runs) - len(new), wakeups)


def _due(run: NewRun, now: datetime) -> datetime | None:
    # The clock is the database's: the delay of a single run counts on it as well.
    if run.delay_seconds is not None:
        return now + timedelta(seconds=run.delay_seconds)
    return run.run_at
