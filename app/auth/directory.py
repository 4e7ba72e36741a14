"""Who a token's claims stand for today, remembered for a short time.

A user or client that was switched off, deleted, or had a scope taken away is
noticed by every process within CACHE_SECONDS, and by the one that did it at once.
"""

import time
from dataclasses import dataclass, replace

from sqlalchemy import exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.errors import InvalidToken
from app.auth.models import Client, RefreshToken, RevokedToken, User
from app.auth.principal import Principal
from app.auth.scopes import CLIENT_ROLE, granted_scopes, still_granted
from app.auth.tokens import Claims
from app.common.single_flight import SingleFlight
from app.config.settings import APPLICATION_BIND
from app.db import Databases

CACHE_SECONDS = 30.0
_MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class _Entry:
    principal: Principal
    until: float


class Directory:
    """Turns claims into principals."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._entries: dict[str, _Entry] = {}
        self._flights: SingleFlight[Principal] = SingleFlight()
        self._generation = 0

    async def principal_of(self, claims: Claims) -> Principal:
        """Return the caller with the scopes that it has to this day; raises InvalidToken."""
        entry = self._entries.get(claims.token_id)
        if entry is None or entry.until <= time.monotonic():
            return await self._look_up(claims)
        return entry.principal

    def forget(self) -> None:
        """Look everybody up anew; what a look-up that is under way finds is not kept."""
        self._entries.clear()
        self._generation += 1

    async def _look_up(self, claims: Claims) -> Principal:
        # A busy caller's requests come at the same time: one of them looks, for all.
        generation = self._generation
        flight = f"{generation}:{claims.token_id}"
        principal = await self._flights.run(flight, lambda: self._load(claims))
        if generation == self._generation:
            if len(self._entries) >= _MAX_ENTRIES:
                self._entries.clear()
            self._entries[claims.token_id] = _Entry(principal, time.monotonic() + CACHE_SECONDS)
        return principal

    async def _load(self, claims: Claims) -> Principal:
        async with self._databases.reading(APPLICATION_BIND) as session:
            if await _is_revoked(session, claims):
                raise InvalidToken("revoked")
            owner = await _find(session, claims)
        if owner is None or not owner.is_active or owner.token_version != claims.version:
            raise InvalidToken("its owner is gone, switched off or has a new password")
        principal = principal_for(owner)
        scopes = still_granted(principal.scopes, claims.scopes)
        return replace(principal, scopes=scopes)


def principal_for(owner: User | Client) -> Principal:
    """Return the user or client with everything it is granted."""
    role = owner.role if isinstance(owner, User) else CLIENT_ROLE
    return Principal(
        id=owner.id,
        name=owner.name,
        kind="user" if isinstance(owner, User) else "client",
        role=role,
        scopes=granted_scopes(role, owner.scopes),
        tenant=owner.tenant,
        version=owner.token_version,
    )


async def _find(session: AsyncSession, claims: Claims) -> User | Client | None:
    if claims.kind == "user":
        return await session.get(User, claims.subject)
    return await session.get(Client, claims.subject)


async def _is_revoked(session: AsyncSession, claims: Claims) -> bool:
    revoked = exists().where(RevokedToken.token_id == claims.token_id)
    ended = exists().where(
        RefreshToken.family_id == claims.session_id, RefreshToken.revoked_at.is_not(None)
    )
    return bool(await session.scalar(select(or_(revoked, ended))))
