"""The tables of rate limits and of paused queues (bind `postgres_main`)."""

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import BasePostgres
from app.db.types import UTCDateTime, db_now


class RateBucket(BasePostgres):
    """How far a rate is used up: `next_at` is when the next start is due at an even pace."""

    __tablename__ = "rate_buckets"

    limit_key: Mapped[str] = mapped_column(String(300), primary_key=True)
    next_at: Mapped[datetime] = mapped_column(UTCDateTime)


class QueuePause(BasePostgres):
    """A class of queues that no worker consumes from until somebody resumes it."""

    __tablename__ = "queue_pauses"

    queue: Mapped[str] = mapped_column(String(64), primary_key=True)
    reason: Mapped[str | None] = mapped_column(Text)
    paused_by: Mapped[str] = mapped_column(String(255))
    paused_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())
