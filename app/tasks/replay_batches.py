"""Replays by filter: which letters are taken, when their runs are due, what one commit holds."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.types import IdType, db_now
from app.tasks.audit import Change, write_audit
from app.tasks.catalogue import CatalogueEntry
from app.tasks.insertion import first_event
from app.tasks.models import DeadLetter, TaskRun, TaskRunEvent
from app.tasks.requests import Caller, NewRun
from app.tasks.transport import Wakeup

OBJECT = "dead_letter"
REPLAYED = "dead_letter.replayed"
CHUNK = 100
_LETTER = DeadLetter.__table__.c
_RUN = TaskRun.__table__.c
# What a new run is made of; the result and the history of the old one stay where they are.
_ORIGINAL = [
    _RUN[name]
    for name in (
        "id", "task", "params", "options", "labels", "queue", "priority", "max_attempts",
        "parent_id", "tenant",
    )
]  # fmt: skip
HAS_RUN = and_(_RUN.id == _LETTER.run_id, _RUN.tenant.is_not_distinct_from(_LETTER.tenant))
# The guard makes one run of two replays: the second waits for the first one's commit.
MARK_REPLAYED = (
    update(DeadLetter)
    .where(
        _LETTER.id == bindparam("letter_id", type_=IdType),
        _LETTER.replayed_at.is_(None),
        _LETTER.discarded_at.is_(None),
    )
    .values(
        replayed_at=db_now(),
        replayed_by=bindparam("actor"),
        replay_run_id=bindparam("replay_id", type_=IdType),
    )
)


@dataclass(frozen=True, kw_only=True)
class ReplayedMany:
    """How many letters were replayed, or would be; `batch_id` is that of their runs. `skipped`
    counts, by error code, the open letters that match and cannot be replayed.
    """

    count: int
    batch_id: str | None
    skipped: Mapping[str, int]


class ReplayPlan:
    """The letters that a replay by filter takes, and the tasks of their runs."""

    def __init__(self, here: ColumnElement[bool], now: datetime) -> None:
        self.here = here
        self.now = now
        self.count = 0
        self.entries: dict[str, CatalogueEntry] = {}
        self.skipped: Counter[str] = Counter()

    def next_chunk(self, after: str | None) -> Select[Any]:
        """Return the statement that locks the next letters; what another call holds is its own."""
        statement = (
            select(_LETTER.id.label("letter_id"), *_ORIGINAL)
            .join_from(DeadLetter.__table__, TaskRun.__table__, HAS_RUN)
            .where(self.here, _RUN.task.in_(self.entries))
            .order_by(_LETTER.id)
            .limit(CHUNK)
            .with_for_update(of=DeadLetter.__table__, skip_locked=True)
        )
        return statement if after is None else statement.where(_LETTER.id > after)


@dataclass
class ReplayBatch:
    """The runs of one replay by filter: what they share, and when each one is due."""

    id: str
    trace_id: str
    rate_per_second: float | None
    reason: str | None
    start: datetime
    count: int = 0
    started: float = field(default_factory=time.monotonic)

    def delay_seconds(self, position: int) -> float | None:
        """Return when the run is due that comes so many after those that are committed."""
        if self.rate_per_second is None:
            return None
        return (self.count + position) / self.rate_per_second

    def row(self, run: NewRun) -> dict[str, Any]:
        """Return the run's row; it is due by the database's clock."""
        delay = run.delay_seconds
        due = None if delay is None else self.start + timedelta(seconds=delay)
        return {**run.row, "scheduled_for": due}

    def wakeup(self, run: NewRun) -> Wakeup:
        """Return the message of a run that was just committed."""
        elapsed = time.monotonic() - self.started
        return run.wakeup(max(0.0, (run.delay_seconds or 0.0) - elapsed))


async def insert_all(
    connection: AsyncConnection,
    made: Sequence[tuple[str, NewRun]],
    batch: ReplayBatch,
    principal: Caller,
) -> None:
    """Insert the runs with events, marks and audit rows; their letters are locked."""
    if not made:
        return
    marks = [
        {"letter_id": letter_id, "actor": principal.id, "replay_id": run.id}
        for letter_id, run in made
    ]
    changes = [
        change_of(REPLAYED, letter_id, batch.reason, {"run_id": run.id, "batch_id": batch.id})
        for letter_id, run in made
    ]
    await connection.execute(MARK_REPLAYED, marks)
    await connection.execute(insert(TaskRun), [batch.row(run) for _, run in made])
    events = [first_event(run, principal.id) for _, run in made]
    await connection.execute(insert(TaskRunEvent), events)
    await write_audit(connection, principal, changes)


def change_of(
    action: str, letter_id: str, reason: str | None, detail: Mapping[str, Any] | None = None
) -> Change:
    """Return the audit row's content for a change of a letter."""
    return Change(
        action=action, object_type=OBJECT, object_id=letter_id, reason=reason, detail=detail
    )
