from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import delete

from app.auth.identity import Identity
from app.auth.keys import open_signing_key
from app.auth.models import Client, RefreshToken, RevokedToken, User
from app.auth.passwords import Passwords
from app.auth.principal import Principal
from app.auth.throttle import LoginThrottle
from app.auth.tokens import TokenService
from app.config.settings import APPLICATION_BIND, JwtSettings
from app.db import Databases
from app.db.migrations import upgrade
from tests.contract.db.making import DIALECTS, make_databases, new_database

PASSWORD = "correct horse battery"
ADDRESS = "192.0.2.1"


@pytest.fixture(scope="session", params=DIALECTS)
def migrated_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = new_database(request.param, request, tmp_path_factory.mktemp("auth"))
    databases = make_databases(url)
    upgrade(databases, [], owner="core", to="0001_identities")
    databases.dispose_sync()
    return url


@pytest.fixture
async def databases(migrated_url: str) -> AsyncIterator[Databases]:
    """A migrated database without a single identity."""
    opened = make_databases(migrated_url)
    async with opened.transaction(APPLICATION_BIND) as session:
        for model in (RefreshToken, RevokedToken, User, Client):
            await session.execute(delete(model))
    yield opened
    await opened.dispose()


@pytest.fixture(scope="session")
def passwords() -> Passwords:
    return Passwords()


@pytest.fixture
def tokens(tmp_path: Path) -> TokenService:
    key = open_signing_key(JwtSettings(), tmp_path, may_generate=True)
    return TokenService(key, issuer="taskyard", audience="taskyard", access_token_seconds=900)


@dataclass
class Door:
    """Makes identity services as several processes would have them, and asks who a token is."""

    databases: Databases
    tokens: TokenService
    passwords: Passwords

    def open(self, *, first_admin: str | None = None, attempts: int = 10) -> Identity:
        throttle = LoginThrottle(attempts)
        return Identity(
            self.databases,
            self.tokens,
            self.passwords,
            throttle,
            refresh_token_seconds=2_592_000,
            first_admin=first_admin,
        )

    async def who(self, access_token: str) -> Principal:
        """What a process that has never seen the token says."""
        return await self.open().principal_of(self.tokens.verify(access_token))


@pytest.fixture
def door(databases: Databases, tokens: TokenService, passwords: Passwords) -> Door:
    return Door(databases, tokens, passwords)


@pytest.fixture
def identity(door: Door) -> Identity:
    return door.open()
