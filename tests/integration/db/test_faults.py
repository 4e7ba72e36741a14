"""A database that is frozen, gone, slow or full gives an error that says so, and never a hang."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.errors import (
    DatabaseBusy,
    DatabaseUnavailable,
    PoolExhausted,
    TransactionConflict,
)
from tests.contract.db.making import make_databases
from tests.integration.db.proxy import SilentProxy, silent_proxy
from tests.services import Services

GUARD_SECONDS = 60
# MySQL's SLEEP and BENCHMARK return a value when they are interrupted, so there it is a join.
SLOW = {
    "postgresql": "SELECT pg_sleep(30)",
    "mysql": "SELECT COUNT(*) FROM information_schema.COLUMNS a"
    " JOIN information_schema.COLUMNS b JOIN information_schema.COLUMNS c",
}


@pytest.fixture(params=["postgresql", "mysql"])
def server_url(request: pytest.FixtureRequest, services: Services) -> str:
    return services.postgres_url if request.param == "postgresql" else services.mysql_url


@pytest.fixture
def proxy(server_url: str) -> Iterator[SilentProxy]:
    url = make_url(server_url)
    if url.host is None:
        pytest.skip("the server is reached through a socket file")
    port = url.port or (5432 if url.get_backend_name() == "postgresql" else 3306)
    with silent_proxy(url.host, port) as opened:
        yield opened


@pytest.fixture
async def behind_proxy(server_url: str, proxy: SilentProxy) -> AsyncIterator[Databases]:
    url = make_url(server_url).set(host="127.0.0.1", port=proxy.port)
    databases = make_databases(
        url.render_as_string(hide_password=False),
        connect_timeout_seconds=1,
        statement_timeout_seconds=1,
        pool_size=1,
        max_overflow=0,
    )
    yield databases
    proxy.thaw()
    await databases.dispose()
    databases.dispose_sync()


@pytest.fixture
async def direct(server_url: str) -> AsyncIterator[Databases]:
    databases = make_databases(
        server_url,
        pool_size=1,
        max_overflow=0,
        pool_timeout_seconds=0.2,
        statement_timeout_seconds=1,
    )
    yield databases
    await databases.dispose()
    databases.dispose_sync()


def _says_nothing_secret(error: DatabaseUnavailable) -> None:
    assert error.status == 503
    assert error.headers["Retry-After"] == "1"
    assert "127.0.0.1" not in error.detail
    assert "SELECT" not in error.detail


async def test_f26_a_frozen_server_is_an_error_in_a_session(
    behind_proxy: Databases, proxy: SilentProxy
) -> None:
    await behind_proxy.ping(APPLICATION_BIND)
    proxy.freeze()
    async with asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(DatabaseUnavailable) as caught:
            async with behind_proxy.transaction(APPLICATION_BIND) as session:
                await session.execute(text("SELECT 1"))
    _says_nothing_secret(caught.value)
    proxy.thaw()
    async with asyncio.timeout(GUARD_SECONDS):
        await behind_proxy.ping(APPLICATION_BIND)


async def test_f26_a_frozen_server_is_an_error_at_the_commit(
    behind_proxy: Databases, proxy: SilentProxy
) -> None:
    async def work() -> None:
        async with behind_proxy.transaction(APPLICATION_BIND) as session:
            await session.execute(text("SELECT 1"))
            proxy.freeze()

    async with asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(DatabaseUnavailable):
            await work()
    proxy.thaw()
    async with asyncio.timeout(GUARD_SECONDS):
        await behind_proxy.ping(APPLICATION_BIND)


async def test_f26_a_frozen_server_is_an_error_when_connecting(
    behind_proxy: Databases, proxy: SilentProxy
) -> None:
    proxy.freeze()
    async with asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(DatabaseUnavailable):
            await behind_proxy.ping(APPLICATION_BIND)


async def test_f26_a_frozen_server_is_an_error_for_a_thread(
    behind_proxy: Databases, proxy: SilentProxy
) -> None:
    def work() -> None:
        with behind_proxy.sync_transaction(APPLICATION_BIND) as session:
            session.execute(text("SELECT 1"))
            proxy.freeze()
            session.execute(text("SELECT 1"))

    async with asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(DatabaseUnavailable) as caught:
            await asyncio.to_thread(work)
        _says_nothing_secret(caught.value)
        with pytest.raises(DatabaseUnavailable):
            await asyncio.to_thread(behind_proxy.ping_sync, APPLICATION_BIND)
        proxy.thaw()
        await asyncio.to_thread(behind_proxy.ping_sync, APPLICATION_BIND)


async def test_f25_a_restart_costs_at_most_the_requests_in_flight(
    behind_proxy: Databases, proxy: SilentProxy
) -> None:
    await behind_proxy.ping(APPLICATION_BIND)
    behind_proxy.ping_sync(APPLICATION_BIND)
    proxy.cut()
    # The loop has to see the end of the stream first.
    await asyncio.sleep(0.1)
    await behind_proxy.ping(APPLICATION_BIND)
    behind_proxy.ping_sync(APPLICATION_BIND)


async def test_f25_a_cut_inside_a_transaction_is_an_error(
    behind_proxy: Databases, proxy: SilentProxy
) -> None:
    async def work() -> None:
        async with behind_proxy.transaction(APPLICATION_BIND) as session:
            await session.execute(text("SELECT 1"))
            proxy.cut()
            await asyncio.sleep(0.1)
            await session.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        await work()
    await behind_proxy.ping(APPLICATION_BIND)


async def test_a_slow_statement_is_given_up_by_the_server(direct: Databases) -> None:
    statement = text(SLOW[direct.dialect(APPLICATION_BIND)])
    async with asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(DatabaseBusy):
            async with direct.transaction(APPLICATION_BIND) as session:
                await session.execute(statement)
        with pytest.raises(DatabaseBusy):
            await asyncio.to_thread(_run_sync, direct, statement)
        await direct.ping(APPLICATION_BIND)


def _run_sync(databases: Databases, statement: object) -> None:
    with databases.sync_transaction(APPLICATION_BIND) as session:
        session.execute(statement)  # type: ignore[call-overload]  # any statement


async def test_f27_an_exhausted_pool_is_an_error(direct: Databases) -> None:
    async with direct.begin(APPLICATION_BIND):
        assert direct.pool_in_use(APPLICATION_BIND) == 1
        with pytest.raises(PoolExhausted) as caught:
            await direct.ping(APPLICATION_BIND)
    _says_nothing_secret(caught.value)
    assert direct.pool_in_use(APPLICATION_BIND) == 0
    await direct.ping(APPLICATION_BIND)
    with direct.sync_begin(APPLICATION_BIND), pytest.raises(PoolExhausted):
        direct.ping_sync(APPLICATION_BIND)


async def test_a_server_that_is_not_there_is_an_error(server_url: str) -> None:
    url = make_url(server_url).set(host="127.0.0.1", port=1, password="hunter2secret")
    databases = make_databases(url.render_as_string(hide_password=False))
    with pytest.raises(DatabaseUnavailable) as caught:
        await databases.ping(APPLICATION_BIND)
    with pytest.raises(DatabaseUnavailable) as caught_sync:
        databases.ping_sync(APPLICATION_BIND)
    for error in (caught.value, caught_sync.value):
        _says_nothing_secret(error)
        chain: BaseException | None = error
        while chain is not None:
            assert "hunter2" not in f"{chain} {chain!r}"
            chain = chain.__cause__ or chain.__context__
    assert "hunter2" not in repr(databases.url(APPLICATION_BIND))
    await databases.dispose()
    databases.dispose_sync()


async def test_a_wrong_password_is_an_error_that_does_not_show_it(server_url: str) -> None:
    url = make_url(server_url).set(username="nobody_here", password="hunter2secret")
    databases = make_databases(url.render_as_string(hide_password=False))
    with pytest.raises(DatabaseUnavailable) as caught:
        await databases.ping(APPLICATION_BIND)
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__!r}"
    await databases.dispose()


@pytest.fixture
async def wide(server_url: str) -> AsyncIterator[Databases]:
    databases = make_databases(server_url, statement_timeout_seconds=2)
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.execute(text("DROP TABLE IF EXISTS crossing"))
        await connection.execute(text("CREATE TABLE crossing (id INT PRIMARY KEY, n INT)"))
        await connection.execute(text("INSERT INTO crossing VALUES (1, 0), (2, 0)"))
    yield databases
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.execute(text("DROP TABLE crossing"))
    await databases.dispose()


async def test_f28_a_deadlock_is_an_error_that_says_try_again(wide: Databases) -> None:
    both_hold_one = asyncio.Barrier(2)

    async def cross(first: int, second: int) -> None:
        async with wide.transaction(APPLICATION_BIND) as session:
            statement = text("UPDATE crossing SET n = n + 1 WHERE id = :id")
            await session.execute(statement, {"id": first})
            await both_hold_one.wait()
            await session.execute(statement, {"id": second})

    async with asyncio.timeout(GUARD_SECONDS):
        results = await asyncio.gather(cross(1, 2), cross(2, 1), return_exceptions=True)
    errors = [one for one in results if one is not None]
    assert len(errors) == 1
    assert isinstance(errors[0], TransactionConflict)


async def test_a_long_wait_for_a_lock_is_an_error(wide: Databases) -> None:
    statement = text("UPDATE crossing SET n = 1 WHERE id = 1")
    async with wide.begin(APPLICATION_BIND) as holder:
        await holder.execute(statement)
        async with asyncio.timeout(GUARD_SECONDS):
            with pytest.raises(DatabaseBusy):
                async with wide.transaction(APPLICATION_BIND) as session:
                    await session.execute(statement)
