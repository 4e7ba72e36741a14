"""The tables of runs (bind `postgres_main`). Every index serves one statement that is named beside
it.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Double,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.common.ids import new_id
from app.db.base import BasePostgres
from app.db.types import IdType, JsonType, UTCDateTime, db_now
from app.tasks import limit_models, worker_models  # noqa: F401 - who imports the models wants all tables

_BIG = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up only INTEGER keys.


_LIVE = "finished_at IS NULL"
_HAS_ENDED = "finished_at IS NOT NULL"
# What a list of runs is ordered by, and what it is narrowed to by equality before that.
_NEWEST = ("created_at", "id")
_LISTS: dict[str, tuple[str, ...]] = {
    "created_at": (),
    "status": ("status",),
    "task": ("task", "status"),
    "queue": ("queue", "status"),
}
_WAITING = "status IN ('PENDING', 'SCHEDULED', 'RETRYING')"
# A run that failed, was cancelled or expired stands in nobody's way.
HELD = "unique_key IS NOT NULL AND status NOT IN ('FAILED', 'CANCELLED', 'EXPIRED')"
_OPEN = "replayed_at IS NULL AND discarded_at IS NULL"


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, postgresql_where=condition, sqlite_where=condition)


class TaskRun(BasePostgres):
    """One run of a task: the truth about it, and its own outbox (`published_at`)."""

    __tablename__ = "task_runs"

    id: Mapped[str] = mapped_column(IdType, primary_key=True, default=new_id)
    task: Mapped[str] = mapped_column(String(200))
    function: Mapped[str] = mapped_column(String(200))
    task_version: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    params: Mapped[dict[str, Any]] = mapped_column(JsonType)
    options: Mapped[dict[str, Any]] = mapped_column(JsonType)
    labels: Mapped[dict[str, str]] = mapped_column(JsonType(jsonb=True))
    result: Mapped[Any] = mapped_column(JsonType, nullable=True)
    result_ref: Mapped[str | None] = mapped_column(String(1024))
    error: Mapped[dict[str, Any] | None] = mapped_column(JsonType)
    progress: Mapped[dict[str, Any] | None] = mapped_column(JsonType)
    # Every change that is told of takes the next number, under the row's lock: see `journal.py`.
    last_seq: Mapped[int] = mapped_column(BigInteger, default=1, server_default="1")
    previous_status: Mapped[str | None] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    max_attempts: Mapped[int] = mapped_column(Integer)
    fence: Mapped[int] = mapped_column(BigInteger, default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    queue: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int] = mapped_column(SmallInteger, default=5)
    scheduled_for: Mapped[datetime | None] = mapped_column(UTCDateTime)
    published_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    limit_key: Mapped[str | None] = mapped_column(String(300))
    held_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    unique_key: Mapped[str | None] = mapped_column(String(255))
    created_by: Mapped[str] = mapped_column(String(255))
    tenant: Mapped[str | None] = mapped_column(String(64))
    parent_id: Mapped[str | None] = mapped_column(IdType)
    batch_id: Mapped[str | None] = mapped_column(IdType)
    replay_of: Mapped[str | None] = mapped_column(IdType)
    schedule_id: Mapped[str | None] = mapped_column(IdType)
    dead_letter_id: Mapped[str | None] = mapped_column(IdType)
    trace_id: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())
    started_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())
    retention_days: Mapped[float | None] = mapped_column(Double)

    __table_args__ = (
        # The sweeper looks for small parts of the table: messages not confirmed, silent workers,
        # rows that are due but not claimed, rows that nobody wants any more, rows past retention.
        # No index has `updated_at`: a report of progress, which changes nothing else that an index
        # has, then stays a heap-only update on PostgreSQL.
        _partial("idx_task_runs_unpublished", "id", where=f"published_at IS NULL AND {_LIVE}"),
        _partial("idx_task_runs_lease", "lease_expires_at", where="status = 'RUNNING'"),
        _partial("idx_task_runs_waiting", "published_at", where=_WAITING),
        _partial(
            "idx_task_runs_expiring", "expires_at", where=f"expires_at IS NOT NULL AND {_LIVE}"
        ),
        # Limits: who runs under a key, and who waits for it, the oldest first.
        _partial(
            "idx_task_runs_limit_key",
            "limit_key",
            "status",
            where=f"limit_key IS NOT NULL AND {_LIVE}",
        ),
        _partial(
            "idx_task_runs_held", "limit_key", "id", where=f"held_until IS NOT NULL AND {_LIVE}"
        ),
        # Retention: what ended, by the three rules that `retention.py` has.
        _partial(
            "idx_task_runs_finished",
            "finished_at",
            where=f"{_HAS_ENDED} AND retention_days IS NULL AND dead_letter_id IS NULL",
        ),
        _partial(
            "idx_task_runs_retention",
            "retention_days",
            "finished_at",
            where=f"{_HAS_ENDED} AND retention_days IS NOT NULL AND dead_letter_id IS NULL",
        ),
        _partial(
            "idx_task_runs_dead",
            "finished_at",
            where=f"{_HAS_ENDED} AND dead_letter_id IS NOT NULL",
        ),
        # Submission: one run per unique key.
        _partial("uk_task_runs_unique_key", "unique_key", where=HELD, unique=True),
        # Lists: newest first. A row is in one of each pair, because `tenant IS NULL` is no equality
        # to the planner: behind it the rest of an index gives no order.
        *(
            _partial(f"idx_task_runs_{name}", *before, *_NEWEST, where="tenant IS NULL")
            for name, before in _LISTS.items()
        ),
        *(
            _partial(
                f"idx_task_runs_tenant_{name}",
                "tenant",
                *before,
                *_NEWEST,
                where="tenant IS NOT NULL",
            )
            for name, before in _LISTS.items()
        ),
        _partial("idx_task_runs_parent_id", "parent_id", *_NEWEST, where="parent_id IS NOT NULL"),
        _partial("idx_task_runs_batch_id", "batch_id", *_NEWEST, where="batch_id IS NOT NULL"),
        _partial("idx_task_runs_replay_of", "replay_of", "id", where="replay_of IS NOT NULL"),
        _partial(
            "idx_task_runs_schedule_id", "schedule_id", *_NEWEST, where="schedule_id IS NOT NULL"
        ),
        # Firing: the runs of a schedule that have not ended.
        _partial(
            "idx_task_runs_schedule_live",
            "schedule_id",
            where=f"schedule_id IS NOT NULL AND {_LIVE}",
        ),
        Index("idx_task_runs_trace_id", "trace_id", *_NEWEST),
        Index(
            "idx_task_runs_labels",
            "labels",
            postgresql_using="gin",
            postgresql_ops={"labels": "jsonb_path_ops"},
            postgresql_where=text("labels <> '{}'::jsonb"),
        ),
    )


class TaskRunEvent(BasePostgres):
    """One transition of a run; append-only."""

    __tablename__ = "task_run_events"

    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(IdType, ForeignKey("task_runs.id", ondelete="CASCADE"))
    # Where it stands among all that is told of its run; the event of the beginning is the first.
    seq: Mapped[int] = mapped_column(BigInteger, default=1, server_default="1")
    at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())
    from_status: Mapped[str | None] = mapped_column(String(16))
    to_status: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(Integer)
    actor: Mapped[str] = mapped_column(String(255))
    worker: Mapped[str | None] = mapped_column(String(255))
    detail: Mapped[dict[str, Any] | None] = mapped_column(JsonType)

    __table_args__ = (Index("uk_task_run_events_seq", "run_id", "seq", unique=True),)


class TaskRunLog(BasePostgres):
    """One line that a task wrote through its context."""

    __tablename__ = "task_run_logs"

    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(IdType, ForeignKey("task_runs.id", ondelete="CASCADE"))
    seq: Mapped[int] = mapped_column(BigInteger, server_default="1")
    attempt: Mapped[int] = mapped_column(Integer)
    number: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    at: Mapped[datetime] = mapped_column(UTCDateTime)
    level: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text)
    fields: Mapped[dict[str, Any] | None] = mapped_column(JsonType)

    __table_args__ = (Index("uk_task_run_logs_seq", "run_id", "seq", unique=True),)


class TaskRunProgress(BasePostgres):
    """One report of progress that was written; what came too fast after it was not."""

    __tablename__ = "task_run_progress"

    run_id: Mapped[str] = mapped_column(
        IdType, ForeignKey("task_runs.id", ondelete="CASCADE"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    attempt: Mapped[int] = mapped_column(Integer)
    number: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime] = mapped_column(UTCDateTime)
    report: Mapped[dict[str, Any]] = mapped_column(JsonType)


class DeadLetter(BasePostgres):
    """What failed for good: a run's last error, or a message that the broker gave up.

    It is open until it is replayed or discarded; a discarded one is kept and no longer shown.
    """

    __tablename__ = "dead_letters"

    id: Mapped[str] = mapped_column(IdType, primary_key=True, default=new_id)
    run_id: Mapped[str | None] = mapped_column(IdType, unique=True)
    task: Mapped[str | None] = mapped_column(String(200))
    queue: Mapped[str] = mapped_column(String(64))
    origin: Mapped[str] = mapped_column(String(16))
    error_type: Mapped[str] = mapped_column(String(200))
    error_message: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    message: Mapped[dict[str, Any] | None] = mapped_column(JsonType)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())
    tenant: Mapped[str | None] = mapped_column(String(64))
    replayed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    replayed_by: Mapped[str | None] = mapped_column(String(255))
    replay_run_id: Mapped[str | None] = mapped_column(IdType)
    discarded_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    discarded_by: Mapped[str | None] = mapped_column(String(255))
    discard_reason: Mapped[str | None] = mapped_column(Text)
    digest: Mapped[str | None] = mapped_column(String(64))
    twin: Mapped[int] = mapped_column(Integer, default=0, server_default="0")

    __table_args__ = (
        # The archive: a message that is no run's own is kept once; equal ones are told by a number.
        Index("uk_dead_letters_digest", "digest", "twin", unique=True),
        Index("idx_dead_letters_group", "task", "error_type", "origin", "id"),
        # Replay by filter takes what is open, oldest first; retention goes by age.
        _partial("idx_dead_letters_open", "id", where=_OPEN),
        Index("idx_dead_letters_created_at", "created_at"),
    )


class AuditEntry(BasePostgres):
    """One change that a person or a program made; append-only, which triggers enforce."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())
    actor: Mapped[str] = mapped_column(String(255))
    tenant: Mapped[str | None] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    object_type: Mapped[str] = mapped_column(String(64))
    object_id: Mapped[str] = mapped_column(String(255))
    reason: Mapped[str | None] = mapped_column(Text)
    detail: Mapped[dict[str, Any] | None] = mapped_column(JsonType)

    __table_args__ = (Index("idx_audit_log_object", "object_type", "object_id", "id"),)


class DerivedTask(BasePostgres):
    """A task made of a code task by presets; no code travels."""

    __tablename__ = "derived_tasks"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    base_task: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text, default="")
    params: Mapped[dict[str, Any]] = mapped_column(JsonType)
    options: Mapped[dict[str, Any]] = mapped_column(JsonType)
    created_by: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())


class Batch(BasePostgres):
    """Runs that were accepted together; which they are, their own `batch_id` says."""

    __tablename__ = "batches"

    id: Mapped[str] = mapped_column(IdType, primary_key=True, default=new_id)
    total: Mapped[int] = mapped_column(Integer)
    deduplicated: Mapped[int] = mapped_column(Integer)
    created_by: Mapped[str] = mapped_column(String(255))
    tenant: Mapped[str | None] = mapped_column(String(64))
    trace_id: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())

    __table_args__ = (Index("idx_batches_created_at", "created_at"),)


class IdempotencyRecord(BasePostgres):
    """The run or batch that an idempotency key stands for, until it expires; `answer` is what its
    rows cannot tell of the first answer.
    """

    __tablename__ = "idempotency_keys"

    caller: Mapped[str] = mapped_column(String(255), primary_key=True)
    endpoint: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    run_id: Mapped[str] = mapped_column(IdType)
    answer: Mapped[dict[str, Any] | None] = mapped_column(JsonType)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)


class Lease(BasePostgres):
    """Leadership of one duty: who holds it until when; `term` rises with every new holder."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(255))
    term: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)
