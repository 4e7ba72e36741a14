"""The table of the workers that are there (bind `postgres_main`)."""

from datetime import datetime

from sqlalchemy import Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import BasePostgres
from app.db.types import JsonType, UTCDateTime, db_now


class WorkerPresence(BasePostgres):
    """A worker as it tells of itself with each heartbeat, and whether somebody drains it."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    queues: Mapped[list[str]] = mapped_column(JsonType)
    concurrency: Mapped[int] = mapped_column(Integer)
    active: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())
    seen_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=db_now())
    drained_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    drained_by: Mapped[str | None] = mapped_column(String(255))
    drain_reason: Mapped[str | None] = mapped_column(Text)
