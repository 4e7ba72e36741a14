"""Refresh tokens: 256 random bits, kept hashed, good for one use.

A login starts a family. Using a token marks it and adds the next one, in one
guarded statement, so of two parallel uses exactly one wins. A token that comes a
second time was stolen, by the first user or by the second, so the family ends.
There is no period of grace: a client that sends the same token twice signs in anew.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.accounts import hash_secret
from app.auth.directory import principal_for
from app.auth.errors import InvalidGrant
from app.auth.models import RefreshToken, RevokedToken, User
from app.auth.principal import Principal
from app.auth.scopes import narrow, still_granted
from app.common.ids import new_id
from app.common.logging import get_logger
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now, db_now_plus

PREFIX = "tyr_"
MAX_LENGTH = 256

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rotation:
    """A refresh token that was just used, and the one that takes its place."""

    principal: Principal
    family_id: str
    scopes: frozenset[str]
    token: str


class RefreshTokens:
    """Issues, rotates and revokes refresh tokens."""

    def __init__(self, databases: Databases, life_seconds: int) -> None:
        self._databases = databases
        self._life_seconds = life_seconds

    async def start(
        self, session: AsyncSession, user_id: str, scopes: Collection[str]
    ) -> tuple[str, str]:
        """Return the first token of a new family and the family's id."""
        token, family_id = _new_token(), new_id()
        session.add(
            RefreshToken(
                token_hash=hash_secret(token),
                family_id=family_id,
                user_id=user_id,
                scopes=sorted(scopes),
                expires_at=db_now_plus(self._life_seconds),
            )
        )
        await session.flush()
        return token, family_id

    async def rotate(self, token: str, scope: str | None) -> Rotation:
        """Use the token up and return the next, with the scopes asked for or all that it has.

        Raises InvalidGrant for a token that is not good, and InvalidScope, which
        leaves the token as it was.
        """
        if not token.startswith(PREFIX) or len(token) > MAX_LENGTH:
            raise InvalidGrant
        token_hash = hash_secret(token)
        async with self._databases.transaction(APPLICATION_BIND) as session:
            if await _use(session, token_hash):
                return await self._next(session, token_hash, scope)
            stale = await _find(session, token_hash)
            if stale is not None and stale.used_at is not None:
                # Committed, and told after the transaction: an error in it would undo it.
                await _revoke_family(session, stale.family_id)
                log.warning("auth.refresh_token_reused", user_id=stale.user_id)
        raise InvalidGrant

    async def revoke(self, token: str, owner_id: str | None) -> None:
        """End the token's family when it is the owner's, or anybody's when the owner is None."""
        async with self._databases.transaction(APPLICATION_BIND) as session:
            found = await _find(session, hash_secret(token))
            if found is not None and owner_id in {None, found.user_id}:
                await _revoke_family(session, found.family_id)

    async def revoke_access(self, token_id: str, expires_at: datetime) -> None:
        """Refuse an access token from now on; doing it twice is once."""
        async with self._databases.transaction(APPLICATION_BIND) as session:
            await session.merge(RevokedToken(token_id=token_id, expires_at=expires_at))

    async def delete_expired(self) -> int:
        """Remove what has expired; return how many rows that were."""
        async with self._databases.transaction(APPLICATION_BIND) as session:
            tokens = delete(RefreshToken).where(RefreshToken.expires_at < db_now())
            revoked = delete(RevokedToken).where(RevokedToken.expires_at < db_now())
            return await _count(session, tokens) + await _count(session, revoked)

    async def _next(self, session: AsyncSession, token_hash: str, scope: str | None) -> Rotation:
        used = await _find(session, token_hash)
        user = await session.get(User, used.user_id) if used is not None else None
        if used is None or user is None or not user.is_active:
            raise InvalidGrant
        principal = principal_for(user)
        scopes = narrow(still_granted(principal.scopes, frozenset(used.scopes)), scope)
        token = _new_token()
        session.add(
            RefreshToken(
                token_hash=hash_secret(token),
                family_id=used.family_id,
                user_id=used.user_id,
                scopes=used.scopes,
                expires_at=used.expires_at,
            )
        )
        await session.flush()
        return Rotation(principal, used.family_id, scopes, token)


def _new_token() -> str:
    return PREFIX + secrets.token_urlsafe(32)


async def _use(session: AsyncSession, token_hash: str) -> bool:
    """Mark the token as used; return whether it was good until now."""
    good = (
        RefreshToken.token_hash == token_hash,
        RefreshToken.used_at.is_(None),
        RefreshToken.revoked_at.is_(None),
        RefreshToken.expires_at > db_now(),
    )
    return await _count(session, update(RefreshToken).where(*good).values(used_at=db_now())) == 1


async def _find(session: AsyncSession, token_hash: str) -> RefreshToken | None:
    query = select(RefreshToken).where(RefreshToken.token_hash == token_hash)
    found: RefreshToken | None = await session.scalar(query)
    return found


async def _revoke_family(session: AsyncSession, family_id: str) -> None:
    open_ones = RefreshToken.family_id == family_id, RefreshToken.revoked_at.is_(None)
    await session.execute(update(RefreshToken).where(*open_ones).values(revoked_at=db_now()))


async def _count(session: AsyncSession, statement: Any) -> int:
    options = {"synchronize_session": False}
    result = await session.execute(statement, execution_options=options)
    assert isinstance(result, CursorResult)  # noqa: S101 - an UPDATE or DELETE gives one
    return result.rowcount
