from datetime import datetime
from typing import Any

from sqlalchemy import Enum, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.common.ids import new_id
from app.db import BaseMysql, BasePostgres
from app.db.types import IdType, JsonType, UTCDateTime, db_now


class Note(BaseMysql):
    __tablename__ = "notes"
    __table_args__ = (Index("ix_notes_at", "at"),)

    id: Mapped[str] = mapped_column(IdType, primary_key=True, default=new_id)
    text: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(Enum("short", "long", name="note_kind"))
    extra: Mapped[Any] = mapped_column(JsonType, nullable=True)
    at: Mapped[datetime] = mapped_column(UTCDateTime, default=db_now())


class Comment(BaseMysql):
    __tablename__ = "note_comments"

    id: Mapped[str] = mapped_column(IdType, primary_key=True, default=new_id)
    note_id: Mapped[str] = mapped_column(ForeignKey(Note.id, ondelete="CASCADE"), index=True)


class NoteIndex(BasePostgres):
    __tablename__ = "note_index"

    id: Mapped[str] = mapped_column(IdType, primary_key=True, default=new_id)
