"""Users and service clients: what administrators make, change and remove."""

import hashlib
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.errors import GrantTooWide, LastAdmin, NameTaken
from app.auth.models import Client, RefreshToken, User
from app.auth.passwords import Passwords
from app.auth.principal import Principal
from app.auth.scopes import ADMIN_SCOPE, ROLES, covers, granted_scopes, is_scope
from app.common.errors import FieldError, NotFound, ValidationFailed
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now

Role = Literal["viewer", "operator", "admin"]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$"
_NAME = re.compile(NAME_PATTERN, re.ASCII)
MAX_SCOPES = 100


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user as others may see it."""

    id: str
    name: str
    role: str
    scopes: tuple[str, ...]
    is_active: bool
    tenant: str | None
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class ServiceClient:
    """A service client as others may see it; the secret is there only when it was just made."""

    id: str
    name: str
    scopes: tuple[str, ...]
    is_active: bool
    tenant: str | None
    created_at: datetime
    secret: str | None = None


class Accounts:
    """Makes, lists, changes and removes users and service clients.

    ``by`` is who asks: nobody grants, or takes charge of, more than they hold.
    None is the administrator on the host.
    """

    def __init__(self, databases: Databases, passwords: Passwords) -> None:
        self._databases = databases
        self._passwords = passwords

    async def create_user(
        self,
        name: str,
        password: str,
        role: Role = "viewer",
        *,
        scopes: Collection[str] = (),
        tenant: str | None = None,
        by: Principal | None = None,
    ) -> Account:
        """Return the new user; raises NameTaken, GrantTooWide or ValidationFailed."""
        _check_grant(by, granted_scopes(_role(role), _scopes(scopes)))
        user = User(
            name=_name(name),
            password_hash=await self._passwords.hash(password),
            role=role,
            scopes=sorted(scopes),
            tenant=tenant,
        )
        return await self._add_user(user)

    async def list_users(self, limit: int, before: str | None = None) -> list[Account]:
        """Return the newest users, those made before the id ``before`` when it is given."""
        query = select(User).order_by(User.id.desc()).limit(limit)
        if before is not None:
            query = query.where(User.id < before)
        async with self._databases.reading(APPLICATION_BIND) as session:
            return [_account(user) for user in await session.scalars(query)]

    async def get_user(self, user_id: str) -> Account:
        """Return the user; raises NotFound."""
        async with self._databases.reading(APPLICATION_BIND) as session:
            return _account(await _user(session, user_id))

    async def update_user(
        self,
        user_id: str,
        *,
        password: str | None = None,
        role: Role | None = None,
        scopes: Collection[str] | None = None,
        is_active: bool | None = None,
        by: Principal | None = None,
    ) -> Account:
        """Return the user with what is not None changed.

        A new password, or being switched off, ends every login of the user.
        Raises NotFound, GrantTooWide, LastAdmin or ValidationFailed.
        """
        new_hash = None if password is None else await self._passwords.hash(password)
        async with self._databases.transaction(APPLICATION_BIND) as session:
            admins = await _lock_active_admins(session)
            user = await _user(session, user_id)
            _check_grant(by, _granted(user))
            user.role = user.role if role is None else _role(role)
            user.scopes = user.scopes if scopes is None else sorted(_scopes(scopes))
            user.is_active = user.is_active if is_active is None else is_active
            _check_grant(by, _granted(user))
            if admins == [user.id] and not (user.is_active and user.role == "admin"):
                raise LastAdmin
            if new_hash is not None:
                user.password_hash = new_hash
            if new_hash is not None or is_active is False:
                user.token_version += 1
                await _end_logins(session, user.id)
            await session.flush()
            await session.refresh(user)
            return _account(user)

    async def delete_user(self, user_id: str, *, by: Principal | None = None) -> None:
        """Remove the user and every login; raises NotFound, GrantTooWide or LastAdmin."""
        async with self._databases.transaction(APPLICATION_BIND) as session:
            admins = await _lock_active_admins(session)
            user = await _user(session, user_id)
            _check_grant(by, _granted(user))
            if admins == [user.id]:
                raise LastAdmin
            await session.execute(delete(RefreshToken).where(RefreshToken.user_id == user.id))
            await session.execute(delete(User).where(User.id == user.id))

    async def create_client(
        self,
        name: str,
        scopes: Collection[str],
        *,
        tenant: str | None = None,
        by: Principal | None = None,
    ) -> ServiceClient:
        """Return the new client with its secret, which is kept hashed and shown this once."""
        _check_grant(by, frozenset(_scopes(scopes)))
        secret = secrets.token_urlsafe(32)
        client = Client(
            name=_name(name),
            secret_hash=hash_secret(secret),
            scopes=sorted(scopes),
            tenant=tenant,
            created_by=by.id if by and by.kind == "user" else None,
        )
        try:
            async with self._databases.transaction(APPLICATION_BIND) as session:
                session.add(client)
                await session.flush()
                await session.refresh(client)
                return _client(client, secret)
        except IntegrityError:
            raise NameTaken(f"There is a client '{client.name}' already.") from None

    async def list_clients(self, limit: int, before: str | None = None) -> list[ServiceClient]:
        """Return the newest clients, those made before the id ``before`` when it is given."""
        query = select(Client).order_by(Client.id.desc()).limit(limit)
        if before is not None:
            query = query.where(Client.id < before)
        async with self._databases.reading(APPLICATION_BIND) as session:
            return [_client(client) for client in await session.scalars(query)]

    async def delete_client(self, client_id: str, *, by: Principal | None = None) -> None:
        """Remove the client, whose tokens are refused from then on; NotFound or GrantTooWide."""
        async with self._databases.transaction(APPLICATION_BIND) as session:
            client = await session.get(Client, client_id)
            if client is None:
                raise NotFound("There is no such client.")
            _check_grant(by, frozenset(client.scopes))
            await session.execute(delete(Client).where(Client.id == client_id))

    async def _add_user(self, user: User) -> Account:
        try:
            async with self._databases.transaction(APPLICATION_BIND) as session:
                session.add(user)
                await session.flush()
                await session.refresh(user)
                return _account(user)
        except IntegrityError:
            raise NameTaken(f"There is a user '{user.name}' already.") from None


def normal_name(name: str) -> str | None:
    """Return the name as it is stored, None for what can be nobody's name."""
    # Checked before it is lowered: other letters than these become one of them.
    return name.lower() if _NAME.fullmatch(name) else None


def hash_secret(secret: str) -> str:
    """Return the stored form of a secret of 256 random bits, which needs no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


async def _user(session: AsyncSession, user_id: str) -> User:
    user = await session.get(User, user_id)
    if user is None:
        raise NotFound("There is no such user.")
    return user


async def _lock_active_admins(session: AsyncSession) -> list[str]:
    """Return the ids of the active administrators, locked so that two cannot remove each other."""
    admins = select(User.id).where(User.role == "admin", User.is_active.is_(True))
    return list(await session.scalars(admins.order_by(User.id).with_for_update()))


async def _end_logins(session: AsyncSession, user_id: str) -> None:
    open_ones = RefreshToken.user_id == user_id, RefreshToken.revoked_at.is_(None)
    await session.execute(update(RefreshToken).where(*open_ones).values(revoked_at=db_now()))


def _check_grant(by: Principal | None, scopes: frozenset[str]) -> None:
    if by is not None and not covers(by.scopes, scopes):
        raise GrantTooWide("This needs scopes that you do not hold yourself.")


def _granted(user: User) -> frozenset[str]:
    return granted_scopes(user.role, user.scopes)


def _name(name: str) -> str:
    normal = normal_name(name)
    if normal is None:
        raise _invalid("name", "A name has 1 to 128 of the characters a-z 0-9 . _ @ + - .")
    return normal


def _role(role: str) -> str:
    if role not in ROLES:
        raise _invalid("role", f"A role is one of {', '.join(ROLES)}.")
    return role


def _scopes(scopes: Collection[str]) -> Sequence[str]:
    if len(scopes) > MAX_SCOPES or not all(is_scope(one) for one in scopes):
        raise _invalid("scopes", f"A scope is area:action or {ADMIN_SCOPE}.")
    return list(scopes)


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, errors=[FieldError(("body", field), message, "value_error")])


def _account(user: User) -> Account:
    return Account(
        id=user.id,
        name=user.name,
        role=user.role,
        scopes=tuple(user.scopes),
        is_active=user.is_active,
        tenant=user.tenant,
        created_at=user.created_at,
        updated_at=user.updated_at,
        last_login_at=user.last_login_at,
    )


def _client(client: Client, secret: str | None = None) -> ServiceClient:
    return ServiceClient(
        id=client.id,
        name=client.name,
        scopes=tuple(client.scopes),
        is_active=client.is_active,
        tenant=client.tenant,
        created_at=client.created_at,
        secret=secret,
    )
