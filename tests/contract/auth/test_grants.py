"""The grants of the token endpoint on every database: cases T1 to T12 and J38."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from sqlalchemy import event, func, select, update

from app.auth.directory import CACHE_SECONDS, Directory
from app.auth.errors import (
    InvalidClient,
    InvalidCredentials,
    InvalidGrant,
    InvalidScope,
    InvalidToken,
    TooManyLogins,
)
from app.auth.identity import Identity, TokenPair
from app.auth.models import RefreshToken, User
from app.auth.passwords import Passwords, Verdict
from app.auth.scopes import ADMIN, OPERATOR, VIEWER, scope_text
from app.common.clock import utc_now
from app.common.errors import NotFound, ValidationFailed
from app.common.ids import new_id
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from tests.contract.auth.conftest import ADDRESS, PASSWORD, Door


async def sign_in(identity: Identity, name: str = "ada", scope: str | None = None) -> TokenPair:
    return await identity.password_grant(name, PASSWORD, scope, ADDRESS)


async def fails(work: Awaitable[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await work


async def test_a_password_gives_tokens_with_the_scopes_of_the_role(
    identity: Identity, door: Door
) -> None:
    user = await identity.create_user("ada", PASSWORD, "operator")
    assert user.last_login_at is None
    pair = await sign_in(identity)
    assert pair.scope == scope_text(OPERATOR)
    assert pair.expires_in == 900
    principal = await door.who(pair.access_token)
    assert (principal.id, principal.name, principal.kind) == (user.id, "ada", "user")
    assert principal.role == "operator"
    assert principal.allows("tasks:run")
    assert not principal.allows("users:manage")
    again = await identity.get_user(user.id)
    assert again.last_login_at is not None
    assert utc_now() - again.last_login_at < timedelta(minutes=5)


async def test_a_name_is_found_in_any_case(identity: Identity) -> None:
    await identity.create_user("Ada", PASSWORD)
    assert await sign_in(identity, "ADA") is not None


async def test_neither_password_nor_token_is_stored(
    identity: Identity, databases: Databases
) -> None:
    await identity.create_user("ada", PASSWORD)
    pair = await sign_in(identity)
    async with databases.transaction(APPLICATION_BIND) as session:
        user = (await session.scalars(select(User))).one()
        stored = (await session.scalars(select(RefreshToken))).one()
    assert user.password_hash.startswith("$argon2id$")
    assert pair.refresh_token is not None
    assert pair.refresh_token not in stored.token_hash
    assert len(stored.token_hash) == 64


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ada", "wrong"),
        ("ada", ""),
        ("nobody", PASSWORD),
        ("ada\x00", PASSWORD),
        ("ada' OR '1'='1", PASSWORD),
        ("", PASSWORD),
        ("x" * 1000, PASSWORD),
        ("ада", PASSWORD),
        ("off", PASSWORD),
    ],
    ids=["wrong", "empty", "unknown", "nul", "sql", "no-name", "long", "cyrillic", "disabled"],
)
async def test_t12_every_wrong_login_is_the_same_error(
    identity: Identity, name: str, password: str
) -> None:
    await identity.create_user("ada", PASSWORD)
    off = await identity.create_user("off", PASSWORD)
    await identity.update_user(off.id, is_active=False)
    with pytest.raises(InvalidCredentials) as caught:
        await identity.password_grant(name, password, None, ADDRESS)
    assert (caught.value.status, caught.value.error) == (401, "invalid_grant")
    assert caught.value.detail == InvalidCredentials().detail


async def test_every_login_costs_one_hash(door: Door) -> None:
    class Counting(Passwords):
        checked: ClassVar[list[bool]] = []

        async def verify(self, password: str, stored: str | None) -> Verdict:
            self.checked.append(stored is not None)
            return await super().verify(password, stored)

    Counting.checked.clear()
    identity = Door(door.databases, door.tokens, Counting()).open()
    await identity.create_user("ada", PASSWORD)
    attempts = (("ada", PASSWORD), ("ada", "wrong"), ("nobody", PASSWORD), ("\x00", "x"))
    for name, password in attempts:
        grant = identity.password_grant(name, password, None, ADDRESS)
        await asyncio.gather(grant, return_exceptions=True)
    assert Counting.checked == [True, True, False, False]


async def test_t10_a_huge_password_or_name_is_refused_before_it_is_hashed(
    identity: Identity,
) -> None:
    await fails(identity.password_grant("ada", "x" * 10_000_000, None, ADDRESS), ValidationFailed)
    await fails(identity.password_grant("x" * 4_000_000, PASSWORD, None, ADDRESS), ValidationFailed)
    await fails(identity.password_grant("ada", "\ud800", None, ADDRESS), ValidationFailed)


async def test_t3_a_scope_narrows_the_token_and_its_refresh(identity: Identity, door: Door) -> None:
    await identity.create_user("ada", PASSWORD, "admin")
    pair = await sign_in(identity, scope="tasks:read lint:run")
    assert pair.scope == "lint:run tasks:read"
    principal = await door.who(pair.access_token)
    assert not principal.allows("admin")
    assert not principal.allows("tasks:run")
    assert pair.refresh_token is not None
    await fails(identity.refresh_grant(pair.refresh_token, "tasks:run"), InvalidScope)
    # A refusal leaves the token as it was.
    narrower = await identity.refresh_grant(pair.refresh_token, "tasks:read")
    assert narrower.scope == "tasks:read"


@pytest.mark.parametrize(
    "scope",
    ["tasks:run", "admin", "tasks:read admin", "x", "tasks:read\ttasks:run", "t:r " * 200],
    ids=["above", "admin", "both", "malformed", "tab", "many"],
)
async def test_t3_a_scope_that_is_not_granted_is_refused(identity: Identity, scope: str) -> None:
    await identity.create_user("ada", PASSWORD, "viewer")
    with pytest.raises(InvalidScope) as caught:
        await sign_in(identity, scope=scope)
    assert (caught.value.status, caught.value.error) == (400, "invalid_scope")


async def test_extra_scopes_are_granted_beyond_the_role(identity: Identity, door: Door) -> None:
    await identity.create_user("ada", PASSWORD, "viewer", scopes=["lint:run"])
    pair = await sign_in(identity)
    assert (await door.who(pair.access_token)).scopes == VIEWER | {"lint:run"}


async def test_refresh_tokens_rotate_and_the_login_keeps_its_end(
    identity: Identity, databases: Databases
) -> None:
    await identity.create_user("ada", PASSWORD)
    first = await sign_in(identity)
    second = await identity.refresh_grant(first.refresh_token or "", None)
    third = await identity.refresh_grant(second.refresh_token or "", None)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    async with databases.transaction(APPLICATION_BIND) as session:
        rows = (await session.scalars(select(RefreshToken))).all()
    assert len(rows) == 3
    assert len({row.family_id for row in rows}) == 1
    assert len({row.expires_at for row in rows}) == 1
    assert timedelta(days=29) < rows[0].expires_at - utc_now() <= timedelta(days=30, minutes=1)


async def test_t6_a_token_that_comes_twice_ends_the_login(identity: Identity, door: Door) -> None:
    await identity.create_user("ada", PASSWORD)
    first = await sign_in(identity)
    other = await sign_in(identity)
    second = await identity.refresh_grant(first.refresh_token or "", None)
    with pytest.raises(InvalidGrant) as caught:
        await identity.refresh_grant(first.refresh_token or "", None)
    assert (caught.value.status, caught.value.error) == (400, "invalid_grant")
    await fails(identity.refresh_grant(second.refresh_token or "", None), InvalidGrant)
    await fails(door.who(second.access_token), InvalidToken)
    # Another login of the same user goes on.
    assert await door.who(other.access_token) is not None
    assert await identity.refresh_grant(other.refresh_token or "", None) is not None


async def test_t7_of_parallel_uses_exactly_one_wins(identity: Identity) -> None:
    await identity.create_user("ada", PASSWORD)
    pair = await sign_in(identity)
    uses = [identity.refresh_grant(pair.refresh_token or "", None) for _ in range(5)]
    results = await asyncio.gather(*uses, return_exceptions=True)
    assert sum(isinstance(one, TokenPair) for one in results) == 1
    assert sum(isinstance(one, InvalidGrant) for one in results) == 4


async def test_t9_a_login_ends_when_its_life_is_over(
    identity: Identity, databases: Databases
) -> None:
    await identity.create_user("ada", PASSWORD)
    pair = await sign_in(identity)
    past = utc_now() - timedelta(seconds=1)
    async with databases.transaction(APPLICATION_BIND) as session:
        await session.execute(update(RefreshToken).values(expires_at=past))
    await fails(identity.refresh_grant(pair.refresh_token or "", None), InvalidGrant)
    assert await identity.delete_expired() == 1
    async with databases.transaction(APPLICATION_BIND) as session:
        assert await session.scalar(select(func.count()).select_from(RefreshToken)) == 0


@pytest.mark.parametrize(
    "token",
    ["", "tyr_", "tyr_unknown", "x" * 5000, "tyr_\x00", "tyr_" + "é" * 20, "tyr_\ud800"],
    ids=["empty", "prefix", "unknown", "long", "nul", "unicode", "surrogate"],
)
async def test_an_unknown_refresh_token_is_refused(identity: Identity, token: str) -> None:
    await fails(identity.refresh_grant(token, None), InvalidGrant)


async def test_j36_an_access_token_is_no_refresh_token(identity: Identity) -> None:
    await identity.create_user("ada", PASSWORD)
    pair = await sign_in(identity)
    await fails(identity.refresh_grant(pair.access_token, None), InvalidGrant)


async def test_a_service_signs_in_with_its_secret(identity: Identity, door: Door) -> None:
    client = await identity.create_client("ci", ["tasks:run", "tasks:read"])
    assert client.secret is not None
    pair = await identity.client_credentials_grant(client.id, client.secret, None, ADDRESS)
    assert pair.refresh_token is None
    assert pair.scope == "tasks:read tasks:run"
    principal = await door.who(pair.access_token)
    assert (principal.kind, principal.name, principal.role) == ("client", "ci", "service")
    assert not principal.allows("tasks:manage")
    await fails(
        identity.client_credentials_grant(client.id, client.secret, "admin", ADDRESS), InvalidScope
    )


async def test_t1_a_wrong_secret_and_an_unknown_client_are_the_same_error(
    identity: Identity,
) -> None:
    client = await identity.create_client("ci", ["tasks:run"])
    for client_id in (client.id, new_id(), "no-id", "", "x" * 5000, "\x00"):
        with pytest.raises(InvalidClient) as caught:
            await identity.client_credentials_grant(client_id, "wrong", None, ADDRESS)
        assert (caught.value.status, caught.value.error) == (401, "invalid_client")
        assert caught.value.headers["WWW-Authenticate"].startswith("Basic")


async def test_t11_wrong_logins_are_braked_for_their_account_only(
    identity: Identity, door: Door
) -> None:
    await identity.create_user("ada", PASSWORD)
    await identity.create_user("bob", PASSWORD)
    for _ in range(10):
        await fails(identity.password_grant("ada", "wrong", None, ADDRESS), InvalidCredentials)
    with pytest.raises(TooManyLogins) as caught:
        await identity.password_grant("ada", PASSWORD, None, "198.51.100.7")
    assert caught.value.status == 429
    assert 1 <= int(caught.value.headers["Retry-After"]) <= 60
    assert caught.value.headers["RateLimit-Policy"] == '"login";q=10;w=60'
    assert await sign_in(identity, "bob") is not None


async def test_t11_wrong_logins_are_braked_for_their_address(door: Door) -> None:
    identity = door.open(attempts=1)
    await identity.create_user("ada", PASSWORD)
    for at in range(5):
        await fails(
            identity.password_grant(f"guess{at}", "wrong", None, ADDRESS), InvalidCredentials
        )
    await fails(identity.password_grant("ada", PASSWORD, None, ADDRESS), TooManyLogins)
    assert await identity.password_grant("ada", PASSWORD, None, "198.51.100.7") is not None


async def test_t11_a_good_login_is_not_counted(door: Door) -> None:
    identity = door.open(attempts=2)
    await identity.create_user("ada", PASSWORD)
    for _ in range(6):
        assert await sign_in(identity) is not None


async def test_j38_switching_off_ends_tokens_and_logins(identity: Identity, door: Door) -> None:
    user = await identity.create_user("ada", PASSWORD)
    pair = await sign_in(identity)
    await identity.update_user(user.id, is_active=False)
    await fails(door.who(pair.access_token), InvalidToken)
    await fails(identity.refresh_grant(pair.refresh_token or "", None), InvalidGrant)
    # Switched on again, what was out before stays dead.
    await identity.update_user(user.id, is_active=True)
    await fails(door.who(pair.access_token), InvalidToken)
    assert await sign_in(identity) is not None


async def test_j38_a_new_password_ends_tokens_and_logins(identity: Identity, door: Door) -> None:
    user = await identity.create_user("ada", PASSWORD)
    pair = await sign_in(identity)
    await identity.update_user(user.id, password="another password")
    await fails(door.who(pair.access_token), InvalidToken)
    await fails(identity.refresh_grant(pair.refresh_token or "", None), InvalidGrant)
    await fails(sign_in(identity), InvalidCredentials)
    assert await identity.password_grant("ada", "another password", None, ADDRESS) is not None


async def test_j38_a_new_password_ends_tokens_without_a_login(
    identity: Identity, door: Door
) -> None:
    user = await identity.create_user("ada", PASSWORD)
    token = await identity.issue_for("ada")
    await identity.update_user(user.id, password="another password")
    await fails(door.who(token), InvalidToken)
    assert (await door.who(await identity.issue_for("ada"))).id == user.id


async def test_j38_a_deleted_user_or_client_is_refused(identity: Identity, door: Door) -> None:
    user = await identity.create_user("ada", PASSWORD)
    pair = await sign_in(identity)
    await identity.delete_user(user.id)
    await fails(door.who(pair.access_token), InvalidToken)
    await fails(identity.refresh_grant(pair.refresh_token or "", None), InvalidGrant)
    client = await identity.create_client("ci", ["tasks:run"])
    grant = await identity.client_credentials_grant(client.id, client.secret or "", None, ADDRESS)
    await identity.delete_client(client.id)
    await fails(door.who(grant.access_token), InvalidToken)


async def test_j38_a_revoked_access_token_is_refused(identity: Identity, door: Door) -> None:
    await identity.create_user("ada", PASSWORD)
    pair = await sign_in(identity)
    other = await sign_in(identity)
    caller = await door.who(pair.access_token)
    await identity.revoke(pair.access_token, caller)
    await identity.revoke(pair.access_token, caller)
    await fails(door.who(pair.access_token), InvalidToken)
    assert await door.who(other.access_token) is not None


async def test_a_revoked_refresh_token_ends_its_login(identity: Identity, door: Door) -> None:
    await identity.create_user("ada", PASSWORD)
    pair = await sign_in(identity)
    await identity.revoke(pair.refresh_token or "", await door.who(pair.access_token))
    await fails(identity.refresh_grant(pair.refresh_token or "", None), InvalidGrant)
    await fails(door.who(pair.access_token), InvalidToken)


async def test_nobody_revokes_the_token_of_another(identity: Identity, door: Door) -> None:
    await identity.create_user("ada", PASSWORD)
    await identity.create_user("eve", PASSWORD)
    await identity.create_user("root", PASSWORD, "admin")
    pair = await sign_in(identity)
    eve = await door.who((await sign_in(identity, "eve")).access_token)
    for token in (pair.access_token, pair.refresh_token or "", "garbage", "tyr_unknown"):
        await identity.revoke(token, eve)
    assert await door.who(pair.access_token) is not None
    root = await door.who((await sign_in(identity, "root")).access_token)
    await identity.revoke(pair.access_token, root)
    await fails(door.who(pair.access_token), InvalidToken)


async def test_z8_a_role_taken_away_counts_at_once_elsewhere(
    identity: Identity, door: Door
) -> None:
    await identity.create_user("root", PASSWORD, "admin")
    user = await identity.create_user("ada", PASSWORD, "admin")
    pair = await sign_in(identity)
    assert (await door.who(pair.access_token)).scopes == ADMIN
    await identity.update_user(user.id, role="viewer")
    principal = await door.who(pair.access_token)
    assert principal.scopes == VIEWER
    assert not principal.allows("users:manage")
    refreshed = await identity.refresh_grant(pair.refresh_token or "", None)
    assert refreshed.scope == scope_text(VIEWER)
    assert CACHE_SECONDS <= 60


@contextmanager
def counting_statements(databases: Databases) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(*call: Any) -> None:
        seen.append(call[2])

    engine = databases.get_engine(APPLICATION_BIND).sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


async def test_requests_that_come_together_look_their_token_up_once(
    identity: Identity, door: Door
) -> None:
    await identity.create_user("ada", PASSWORD, "viewer")
    claims = door.tokens.verify((await sign_in(identity)).access_token)
    directory = Directory(door.databases)
    with counting_statements(door.databases) as alone:
        await Directory(door.databases).principal_of(claims)
    with counting_statements(door.databases) as together:
        found = await asyncio.gather(*(directory.principal_of(claims) for _ in range(40)))
    assert {principal.name for principal in found} == {"ada"}
    assert together == alone != []
    with counting_statements(door.databases) as later:
        await directory.principal_of(claims)
    assert later == []


async def test_what_a_look_up_found_before_everybody_was_forgotten_is_not_kept(
    identity: Identity, door: Door
) -> None:
    await identity.create_user("ada", PASSWORD, "viewer")
    claims = door.tokens.verify((await sign_in(identity)).access_token)
    directory = Directory(door.databases)
    with counting_statements(door.databases) as anew:
        overtaken = asyncio.ensure_future(directory.principal_of(claims))
        await asyncio.sleep(0)
        directory.forget()
        await asyncio.gather(overtaken, directory.principal_of(claims))
        await directory.principal_of(claims)
    with counting_statements(door.databases) as alone:
        await Directory(door.databases).principal_of(claims)
    # One look-up was under way, one is new, and the third call finds what the second has kept.
    assert len(anew) == 2 * len(alone)


async def test_a_new_role_gives_nothing_to_tokens_that_are_out(
    identity: Identity, door: Door
) -> None:
    user = await identity.create_user("ada", PASSWORD, "viewer")
    pair = await sign_in(identity)
    await identity.update_user(user.id, role="admin")
    assert (await door.who(pair.access_token)).scopes == VIEWER


async def test_a_token_is_issued_on_the_host_without_a_password(
    identity: Identity, door: Door
) -> None:
    user = await identity.create_user("ada", PASSWORD, "operator")
    token = await identity.issue_for("Ada", ["tasks:run"], 60)
    assert (await door.who(token)).scopes == {"tasks:run"}
    await fails(identity.issue_for("nobody"), NotFound)
    await fails(identity.issue_for("\x00"), NotFound)
    await fails(identity.issue_for("ada", ["admin"]), InvalidScope)
    await identity.update_user(user.id, is_active=False)
    await fails(identity.issue_for("ada"), NotFound)
