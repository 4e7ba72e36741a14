"""Users and service clients on every database."""

import asyncio

import pytest

from app.auth.errors import GrantTooWide, LastAdmin, NameTaken
from app.auth.identity import Identity
from app.auth.principal import Principal
from app.auth.scopes import ADMIN, OPERATOR
from app.common.errors import ConfigurationError, NotFound, ValidationFailed
from app.common.ids import new_id
from tests.contract.auth.conftest import ADDRESS, PASSWORD, Door


def manager(scopes: frozenset[str] = OPERATOR | {"users:manage"}) -> Principal:
    return Principal(id=new_id(), name="manager", kind="user", role="operator", scopes=scopes)


async def test_a_user_is_made_read_changed_and_removed(identity: Identity) -> None:
    made = await identity.create_user("Ada", PASSWORD, "operator", scopes=["lint:run"], tenant="t1")
    assert (made.name, made.role, made.scopes, made.tenant) == (
        "ada",
        "operator",
        ("lint:run",),
        "t1",
    )
    assert made.is_active
    assert made.created_at.utcoffset() is not None
    assert await identity.get_user(made.id) == made
    changed = await identity.update_user(made.id, role="viewer", scopes=[])
    assert (changed.role, changed.scopes) == ("viewer", ())
    assert changed.updated_at >= made.updated_at
    await identity.delete_user(made.id)
    for work in (
        identity.get_user(made.id),
        identity.update_user(made.id, role="viewer"),
        identity.delete_user(made.id),
        identity.delete_client(made.id),
    ):
        with pytest.raises(NotFound):
            await work


async def test_a_name_is_given_once(identity: Identity) -> None:
    await identity.create_user("ada", PASSWORD)
    with pytest.raises(NameTaken):
        await identity.create_user("ADA", PASSWORD)
    await identity.create_client("ada", ["tasks:run"])
    with pytest.raises(NameTaken):
        await identity.create_client("ada", ["tasks:run"])


async def test_of_parallel_requests_for_a_name_one_wins(identity: Identity) -> None:
    work = [identity.create_user("ada", PASSWORD) for _ in range(4)]
    results = await asyncio.gather(*work, return_exceptions=True)
    assert sum(isinstance(one, NameTaken) for one in results) == 3
    assert len(await identity.list_users(10)) == 1


@pytest.mark.parametrize(
    ("name", "password", "field"),
    [
        ("", PASSWORD, "name"),
        ("a b", PASSWORD, "name"),
        ("-", PASSWORD, "name"),
        ("a\x00", PASSWORD, "name"),
        ("a" * 129, PASSWORD, "name"),
        ("ада", PASSWORD, "name"),
        ("\N{KELVIN SIGN}ai", PASSWORD, "name"),
        ("ada", "short", "password"),
        ("ada", "x" * 1025, "password"),
        ("ada", "é" * 513, "password"),
        ("ada", "nul\x00nul\x00", "password"),
        ("ada", "lone\ud800surrogate", "password"),
    ],
    ids=[str(at) for at in range(12)],
)
async def test_names_and_passwords_are_checked(
    identity: Identity, name: str, password: str, field: str
) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await identity.create_user(name, password)
    assert caught.value.errors[0].loc == ("body", field)
    assert await identity.list_users(10) == []


async def test_scopes_and_roles_are_checked(identity: Identity) -> None:
    with pytest.raises(ValidationFailed):
        await identity.create_user("ada", PASSWORD, scopes=["NOT A SCOPE"])
    with pytest.raises(ValidationFailed):
        await identity.create_user("ada", PASSWORD, "emperor")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValidationFailed):
        await identity.create_client("ci", ["tasks:run"] * 101)


async def test_lists_are_paged_newest_first(identity: Identity) -> None:
    for name in ("u1", "u2", "u3"):
        await identity.create_user(name, PASSWORD)
        await identity.create_client(name, ["tasks:run"])
    users = await identity.list_users(2)
    assert [user.name for user in users] == ["u3", "u2"]
    assert [user.name for user in await identity.list_users(2, users[-1].id)] == ["u1"]
    clients = await identity.list_clients(2)
    assert [client.name for client in clients] == ["u3", "u2"]
    assert [one.name for one in await identity.list_clients(2, clients[-1].id)] == ["u1"]
    assert all(client.secret is None for client in clients)


async def test_nobody_grants_more_than_they_hold(identity: Identity) -> None:
    by = manager()
    admin = await identity.create_user("root", PASSWORD, "admin")
    viewer = await identity.create_user("ada", PASSWORD, "viewer", by=by)
    for work in (
        identity.create_user("eve", PASSWORD, "admin", by=by),
        identity.create_user("eve", PASSWORD, "viewer", scopes=["lint:run"], by=by),
        identity.create_client("eve", ["admin"], by=by),
        identity.update_user(viewer.id, role="admin", by=by),
        identity.update_user(viewer.id, scopes=["admin"], by=by),
        identity.update_user(admin.id, password="taken over now", by=by),
        identity.update_user(admin.id, role="viewer", by=by),
        identity.delete_user(admin.id, by=by),
    ):
        with pytest.raises(GrantTooWide):
            await work
    assert (await identity.get_user(viewer.id)).role == "viewer"
    assert await identity.password_grant("root", PASSWORD, None, ADDRESS) is not None
    root = manager(ADMIN)
    assert (await identity.update_user(viewer.id, role="admin", by=root)).role == "admin"


async def test_a_client_with_more_than_oneself_is_not_removed(identity: Identity) -> None:
    client = await identity.create_client("ci", ["admin"])
    with pytest.raises(GrantTooWide):
        await identity.delete_client(client.id, by=manager())
    await identity.delete_client(client.id, by=manager(ADMIN))
    assert await identity.list_clients(10) == []


async def test_the_last_admin_stays(identity: Identity) -> None:
    root = await identity.create_user("root", PASSWORD, "admin")
    for work in (
        identity.update_user(root.id, role="viewer"),
        identity.update_user(root.id, is_active=False),
        identity.delete_user(root.id),
    ):
        with pytest.raises(LastAdmin):
            await work
    assert (await identity.update_user(root.id, password="a new password")).is_active
    second = await identity.create_user("second", PASSWORD, "admin")
    await identity.delete_user(root.id)
    with pytest.raises(LastAdmin):
        await identity.delete_user(second.id)


async def test_two_admins_cannot_remove_each_other(identity: Identity) -> None:
    users = [await identity.create_user(f"root{at}", PASSWORD, "admin") for at in range(2)]
    work = [identity.delete_user(user.id) for user in users]
    results = await asyncio.gather(*work, return_exceptions=True)
    assert sum(isinstance(one, LastAdmin) for one in results) == 1
    assert len(await identity.list_users(10)) == 1


async def test_the_first_admin_gets_a_password_that_is_told_once(door: Door) -> None:
    identity = door.open(first_admin="admin")
    password = await identity.bootstrap_admin()
    assert password is not None
    assert len(password) >= 16
    pair = await identity.password_grant("admin", password, None, ADDRESS)
    assert (await door.who(pair.access_token)).allows("admin")
    assert await identity.bootstrap_admin() is None


async def test_the_first_admin_can_be_configured(door: Door) -> None:
    identity = door.open(first_admin=f"chief:{PASSWORD}:with:colons")
    assert await identity.bootstrap_admin() is None
    assert (
        await identity.password_grant("chief", f"{PASSWORD}:with:colons", None, ADDRESS) is not None
    )


async def test_there_is_no_first_admin_when_there_is_a_user(door: Door) -> None:
    identity = door.open(first_admin="admin")
    await identity.create_user("ada", PASSWORD)
    assert await identity.bootstrap_admin() is None
    assert [user.name for user in await identity.list_users(10)] == ["ada"]


async def test_without_a_first_admin_none_is_made(identity: Identity) -> None:
    assert await identity.bootstrap_admin() is None
    assert await identity.list_users(10) == []


async def test_a_first_admin_without_a_password_stops_the_start(door: Door) -> None:
    with pytest.raises(ConfigurationError):
        await door.open(first_admin="admin:").bootstrap_admin()


async def test_of_processes_that_start_at_once_one_makes_the_admin(door: Door) -> None:
    work = [door.open(first_admin="admin").bootstrap_admin() for _ in range(4)]
    told = [password for password in await asyncio.gather(*work) if password is not None]
    assert len(told) == 1
    assert await door.open().password_grant("admin", told[0], None, ADDRESS) is not None
