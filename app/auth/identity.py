"""Signing in: the grants of the token endpoint, and everything about identities in one service."""

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, update

from app.auth.accounts import Accounts, hash_secret, normal_name
from app.auth.directory import Directory, principal_for
from app.auth.errors import InvalidClient, InvalidCredentials, InvalidToken, NameTaken
from app.auth.keys import open_signing_key
from app.auth.models import Client, User
from app.auth.passwords import MAX_BYTES, Passwords, check_length
from app.auth.principal import Principal
from app.auth.refresh import PREFIX, RefreshTokens
from app.auth.scopes import narrow, scope_text
from app.auth.throttle import LoginThrottle
from app.auth.tokens import Claims, TokenService
from app.common.errors import ConfigurationError, NotFound, ValidationFailed
from app.common.ids import parse_id
from app.common.logging import get_logger
from app.config.settings import APPLICATION_BIND, Settings
from app.db import Databases
from app.db.types import db_now

DEFAULT_ADMIN = "admin"

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class TokenPair:
    """What a grant gives. ``expires_in`` is in seconds; clients get no refresh token."""

    access_token: str
    expires_in: int
    scope: str
    refresh_token: str | None = None


class Identity(Accounts):
    """Users, clients, their logins and their tokens."""

    def __init__(
        self,
        databases: Databases,
        tokens: TokenService,
        passwords: Passwords,
        throttle: LoginThrottle,
        *,
        refresh_token_seconds: int,
        first_admin: str | None = None,
    ) -> None:
        super().__init__(databases, passwords)
        self._tokens = tokens
        self._throttle = throttle
        self._refresh = RefreshTokens(databases, refresh_token_seconds)
        self._directory = Directory(databases)
        self._first_admin = first_admin

    async def password_grant(
        self, username: str, password: str, scope: str | None, address: str
    ) -> TokenPair:
        """Return tokens for a user; raises InvalidCredentials, InvalidScope or TooManyLogins."""
        check_length(password)
        if len(username) > MAX_BYTES:
            raise ValidationFailed(f"The user name has more than {MAX_BYTES} characters.")
        name = normal_name(username)
        await self._throttle.enter(f"user:{name or username}", address)
        user = await self._authenticated(name, password)
        if user is None:
            await self._throttle.failed(address)
            log.info("auth.login_failed", account=name, address=address)
            raise InvalidCredentials
        await self._throttle.succeeded(f"user:{name}")
        principal = principal_for(user)
        scopes = narrow(principal.scopes, scope)
        async with self._databases.transaction(APPLICATION_BIND) as session:
            await session.execute(
                update(User).where(User.id == user.id).values(last_login_at=db_now())
            )
            token, family_id = await self._refresh.start(session, user.id, scopes)
        return self._pair(principal, scopes, refresh_token=token, session_id=family_id)

    async def refresh_grant(self, refresh_token: str, scope: str | None) -> TokenPair:
        """Return new tokens for a refresh token, which is used up; InvalidGrant or InvalidScope."""
        rotation = await self._refresh.rotate(refresh_token, scope)
        return self._pair(
            rotation.principal,
            rotation.scopes,
            refresh_token=rotation.token,
            session_id=rotation.family_id,
        )

    async def client_credentials_grant(
        self, client_id: str, client_secret: str, scope: str | None, address: str
    ) -> TokenPair:
        """Return an access token for a service client; InvalidClient or InvalidScope."""
        account = f"client:{client_id[:64]}"
        await self._throttle.enter(account, address)
        client = await self._find_client(client_id)
        # The comparison is made for an unknown client too, so the time tells nothing.
        stored = client.secret_hash if client else hash_secret("")
        fits = hmac.compare_digest(stored, hash_secret(client_secret))
        if client is None or not fits or not client.is_active:
            await self._throttle.failed(address)
            log.info("auth.client_refused", address=address)
            raise InvalidClient
        await self._throttle.succeeded(account)
        principal = principal_for(client)
        return self._pair(principal, narrow(principal.scopes, scope))

    async def revoke(self, token: str, by: Principal) -> None:
        """Revoke the caller's own refresh token, with its family, or access token (RFC 7009).

        A token that is unknown, or somebody else's, is passed over in silence,
        unless the caller manages users.
        """
        owner_id = None if by.allows("users:manage") else by.id
        if token.startswith(PREFIX):
            await self._refresh.revoke(token, owner_id)
        else:
            await self._revoke_access(token, owner_id)
        self._directory.forget()

    async def principal_of(self, claims: Claims) -> Principal:
        """Return the caller as it is today, at most CACHE_SECONDS late; raises InvalidToken."""
        return await self._directory.principal_of(claims)

    async def issue_for(
        self, username: str, scopes: Iterable[str] = (), expires_in: int | None = None
    ) -> str:
        """Return an access token for a user without a password, for the administrator on the host.

        ``expires_in`` is in seconds. Raises NotFound, InvalidScope or ValidationFailed.
        """
        user = await self._find_user(normal_name(username))
        if user is None or not user.is_active:
            raise NotFound(f"There is no active user '{username}'.")
        principal = principal_for(user)
        return self._tokens.issue(
            principal, narrow(principal.scopes, scope_text(scopes)), expires_in
        )

    async def bootstrap_admin(self) -> str | None:
        """Make the first administrator while there is no user; return a password that was made up.

        Of several processes that start at once, one makes it: the name is unique.
        """
        if self._first_admin is None or await self.list_users(limit=1):
            return None
        name, separator, password = self._first_admin.partition(":")
        if separator and not password:
            raise ConfigurationError("auth.bootstrap_admin has no password behind the colon.")
        generated = None if password else secrets.token_urlsafe(12)
        try:
            await self.create_user(name, password or generated or "", "admin")
        except NameTaken:
            return None
        log.info("auth.first_admin_made", account=name)
        return generated

    async def delete_expired(self) -> int:
        """Remove expired refresh tokens and revocations; return how many rows that were."""
        return await self._refresh.delete_expired()

    def close(self) -> None:
        """Free the threads."""
        self._passwords.close()

    async def _authenticated(self, name: str | None, password: str) -> User | None:
        user = await self._find_user(name)
        verdict = await self._passwords.verify(password, user.password_hash if user else None)
        if user is None or not verdict.fits or not user.is_active:
            return None
        if verdict.new_hash is not None:
            async with self._databases.transaction(APPLICATION_BIND) as session:
                renewed = update(User).where(User.id == user.id)
                await session.execute(renewed.values(password_hash=verdict.new_hash))
        return user

    async def _find_user(self, name: str | None) -> User | None:
        # A name that nobody can have costs the same statement as one that nobody has.
        query = select(User).where(User.name == (name or "-"))
        async with self._databases.reading(APPLICATION_BIND) as session:
            found: User | None = await session.scalar(query)
            return found

    async def _find_client(self, client_id: str) -> Client | None:
        try:
            key = parse_id(client_id)
        except ValueError:
            return None
        async with self._databases.reading(APPLICATION_BIND) as session:
            return await session.get(Client, key)

    async def _revoke_access(self, token: str, owner_id: str | None) -> None:
        try:
            claims = self._tokens.verify(token)
        except InvalidToken:
            return
        if owner_id in {None, claims.subject}:
            expires_at = datetime.fromtimestamp(claims.expires_at, UTC)
            await self._refresh.revoke_access(claims.token_id, expires_at)

    def _pair(
        self,
        principal: Principal,
        scopes: frozenset[str],
        *,
        refresh_token: str | None = None,
        session_id: str | None = None,
    ) -> TokenPair:
        return TokenPair(
            access_token=self._tokens.issue(principal, scopes, session_id=session_id),
            expires_in=self._tokens.access_token_seconds,
            scope=scope_text(scopes),
            refresh_token=refresh_token,
        )


def first_admin_name(settings: Settings) -> str:
    """Return the name under which the first administrator is made."""
    configured = settings.auth.bootstrap_admin
    return configured.get_secret_value().partition(":")[0] if configured else DEFAULT_ADMIN


def open_tokens(settings: Settings) -> TokenService:
    """Return the token service that the settings describe; raises SigningKeyError."""
    key = open_signing_key(settings.auth.jwt, settings.data_dir, may_generate=settings.is_embedded)
    return TokenService(
        key,
        issuer=settings.auth.jwt.issuer,
        audience=settings.auth.jwt.audience,
        access_token_seconds=settings.auth.access_token_seconds,
    )


def open_identity(settings: Settings, databases: Databases, tokens: TokenService) -> Identity:
    """Return the identity service that the settings describe.

    Only the embedded form makes up a first administrator by itself.
    """
    redis_url = settings.redis.url.get_secret_value()
    configured = settings.auth.bootstrap_admin
    default = DEFAULT_ADMIN if settings.is_embedded else None
    return Identity(
        databases,
        tokens,
        Passwords(),
        LoginThrottle(
            settings.auth.login_attempts_per_minute,
            redis_url if redis_url.startswith("redis") else None,
        ),
        refresh_token_seconds=settings.auth.refresh_token_seconds,
        first_admin=configured.get_secret_value() if configured else default,
    )
