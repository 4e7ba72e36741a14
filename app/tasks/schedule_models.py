"""The tables of schedules (bind `postgres_main`)."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Double, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.common.ids import new_id
from app.db.base import BasePostgres
from app.db.types import IdType, JsonType, UTCDateTime, db_now

_BIG = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up only INTEGER keys.
_NO_TENANT = text("tenant IS NULL")
_DUE = text("next_fire_at IS NOT NULL")


class StoredSchedule(BasePostgres):
    """A schedule; one that is paused, or whose times cannot be told, has no `next_fire_at`.

    `kind` is `api` for one that somebody made, `code` for one that a task declares. An interval
    counts from `anchor_at`.
    """

    __tablename__ = "schedules"

    id: Mapped[str] = mapped_column(IdType, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(8))
    task: Mapped[str] = mapped_column(String(200))
    params: Mapped[dict[str, Any]] = mapped_column(JsonType)
    cron: Mapped[str | None] = mapped_column(String(200))
    interval_seconds: Mapped[float | None] = mapped_column(Double)
    timezone: Mapped[str] = mapped_column(String(64))
    misfire: Mapped[str] = mapped_column(String(16))
    overlap: Mapped[str] = mapped_column(String(16))
    is_active: Mapped[bool]
    anchor_at: Mapped[datetime] = mapped_column(UTCDateTime)
    next_fire_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    last_fire_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    last_run_id: Mapped[str | None] = mapped_column(IdType)
    error: Mapped[dict[str, Any] | None] = mapped_column(JsonType)
    tenant: Mapped[str | None] = mapped_column(String(64))
    created_by: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())

    __table_args__ = (
        # One name per tenant. An index takes two missing tenants for different ones.
        Index("uk_schedules_tenant_name", "tenant", "name", unique=True),
        Index(
            "uk_schedules_name",
            "name",
            unique=True,
            postgresql_where=_NO_TENANT,
            sqlite_where=_NO_TENANT,
        ),
        # Beat asks for what is due.
        Index(
            "idx_schedules_next_fire_at",
            "next_fire_at",
            postgresql_where=_DUE,
            sqlite_where=_DUE,
        ),
    )


class ScheduleFiring(BasePostgres):
    """What became of one fire time; the unique index is what keeps it from firing twice.

    `missed_since` is the first fire time that the row stands for, when it stands for several.
    """

    __tablename__ = "schedule_firings"

    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    schedule_id: Mapped[str] = mapped_column(IdType, ForeignKey("schedules.id", ondelete="CASCADE"))
    fire_time: Mapped[datetime] = mapped_column(UTCDateTime)
    trigger: Mapped[str] = mapped_column(String(8))
    outcome: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    missed_since: Mapped[datetime | None] = mapped_column(UTCDateTime)
    run_id: Mapped[str | None] = mapped_column(IdType)
    fired_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())

    __table_args__ = (
        Index("uk_schedule_firings_fire_time", "schedule_id", "trigger", "fire_time", unique=True),
        # The history of a schedule is read newest first; retention goes by age.
        Index("idx_schedule_firings_schedule_id", "schedule_id", "id"),
        Index("idx_schedule_firings_fired_at", "fired_at"),
    )
