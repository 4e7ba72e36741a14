"""Identities (bind `postgres_main`): people, service clients, and the refresh tokens of people."""

from datetime import datetime

from sqlalchemy import CHAR, Boolean, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.common.ids import new_id
from app.db.base import BasePostgres
from app.db.types import IdType, JsonType, UTCDateTime, db_now


class User(BasePostgres):
    """A person who signs in with a password."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(IdType, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16))
    scopes: Mapped[list[str]] = mapped_column(JsonType)
    is_active: Mapped[bool] = mapped_column(Boolean, default=True)
    # Access tokens carry this number; raising it refuses those that are out.
    token_version: Mapped[int] = mapped_column(Integer, default=1)
    tenant: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=db_now())
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, default=db_now(), onupdate=db_now())
    last_login_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class Client(BasePostgres):
    """A service that signs in with a secret; it has scopes instead of a role."""

    __tablename__ = "clients"

    id: Mapped[str] = mapped_column(IdType, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    secret_hash: Mapped[str] = mapped_column(CHAR(64))
    scopes: Mapped[list[str]] = mapped_column(JsonType)
    is_active: Mapped[bool] = mapped_column(Boolean, default=True)
    token_version: Mapped[int] = mapped_column(Integer, default=1)
    tenant: Mapped[str | None] = mapped_column(String(64))
    created_by: Mapped[str | None] = mapped_column(IdType)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=db_now())
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, default=db_now(), onupdate=db_now())


class RefreshToken(BasePostgres):
    """One refresh token. A family is a login and all tokens that were rotated from it."""

    __tablename__ = "refresh_tokens"

    id: Mapped[str] = mapped_column(IdType, primary_key=True, default=new_id)
    token_hash: Mapped[str] = mapped_column(CHAR(64), unique=True)
    family_id: Mapped[str] = mapped_column(IdType)
    user_id: Mapped[str] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    scopes: Mapped[list[str]] = mapped_column(JsonType)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=db_now())
    # The end of the whole family: rotating never moves it.
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (
        # Reuse revokes by family, a change of the password by user, the sweep deletes by time.
        Index("ix_refresh_tokens_family_id", "family_id"),
        Index("ix_refresh_tokens_user_id", "user_id"),
        Index("ix_refresh_tokens_expires_at", "expires_at"),
    )


class RevokedToken(BasePostgres):
    """An access token that was handed back before its time; kept until it would have expired."""

    __tablename__ = "revoked_tokens"

    token_id: Mapped[str] = mapped_column(IdType, primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)

    __table_args__ = (Index("ix_revoked_tokens_expires_at", "expires_at"),)
