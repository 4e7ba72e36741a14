"""Stored profiles: rules, options and severities under a name that requests can say.

Everybody who may read runs sees the profiles of the own tenant. A job keeps what the profile said
when the job was submitted, so a later change touches no job.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.auth.principal import Principal
from app.db import Databases
from app.plugins.lint.errors import (
    LintProfileChanged,
    LintProfileNotFound,
    LintProfileTaken,
)
from app.plugins.lint.models import BIND, LintProfile
from app.plugins.lint.options import Wish, check_wish
from app.plugins.lint.settings import LintSettings


@dataclass(frozen=True, slots=True)
class StoredProfiles:
    """The profiles of one installation, within the caller's tenant."""

    databases: Databases
    settings: LintSettings

    async def create(
        self, caller: Principal, name: str, description: str | None, wish: Wish
    ) -> LintProfile:
        """Return a new profile; LintFieldInvalid for wrong names, LintProfileTaken."""
        profile = LintProfile(
            tenant=_tenant(caller),
            name=name,
            version=1,
            description=description,
            wish=check_wish(wish, self.settings).to_json(),
            created_by=caller.id,
        )
        try:
            async with self.databases.transaction(BIND) as session:
                session.add(profile)
        except IntegrityError:
            raise LintProfileTaken(name) from None
        return await self.get(caller, name)

    async def get(self, caller: Principal, name: str) -> LintProfile:
        """Return a profile; LintProfileNotFound."""
        async with self.databases.transaction(BIND) as session:
            return await session.run_sync(find_profile, _tenant(caller), name)

    async def list(self, caller: Principal, *, after: str, limit: int) -> Sequence[LintProfile]:
        """Return up to `limit` profiles by name, behind a name."""
        statement = select(LintProfile).where(
            LintProfile.tenant == _tenant(caller), LintProfile.name > after
        )
        async with self.databases.transaction(BIND) as session:
            rows = await session.scalars(statement.order_by(LintProfile.name).limit(limit))
            return rows.all()

    async def replace(
        self,
        caller: Principal,
        name: str,
        description: str | None,
        wish: Wish,
        *,
        version: int | None,
    ) -> LintProfile:
        """Return the profile with another content and the next version.

        LintProfileNotFound; LintProfileChanged when it is not the `version` that was given.
        """
        told = check_wish(wish, self.settings).to_json()

        def change(session: Session) -> None:
            profile = find_profile(session, _tenant(caller), name, lock=True)
            if version is not None and profile.version != version:
                raise LintProfileChanged(name, profile.version)
            profile.version += 1
            profile.description, profile.wish = description, told

        async with self.databases.transaction(BIND) as session:
            await session.run_sync(change)
        return await self.get(caller, name)

    async def delete(self, caller: Principal, name: str) -> None:
        """Remove a profile; jobs that used it stay as they are. LintProfileNotFound."""
        async with self.databases.transaction(BIND) as session:
            profile = await session.run_sync(find_profile, _tenant(caller), name)
            await session.delete(profile)


def find_profile(
    session: Session, tenant: str | None, name: str, *, lock: bool = False
) -> LintProfile:
    """Return a tenant's profile of this name; LintProfileNotFound."""
    statement = select(LintProfile).where(
        LintProfile.tenant == (tenant or ""), LintProfile.name == name
    )
    profile = session.scalars(statement.with_for_update() if lock else statement).one_or_none()
    if profile is None:
        raise LintProfileNotFound(name)
    return profile


def _tenant(caller: Principal) -> str:
    return caller.tenant or ""
