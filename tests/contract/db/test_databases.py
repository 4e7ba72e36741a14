"""Engines, sessions and transactions on every dialect."""

import asyncio
import multiprocessing
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from app.auth.models import User
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from tests.contract.db.making import make_databases

COUNT = text("SELECT COUNT(*) FROM deeds")
INSERT = text("INSERT INTO deeds (name) VALUES (:name)")


class Stop(Exception):
    pass


@pytest.fixture(autouse=True)
async def table(databases: Databases) -> AsyncIterator[None]:
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.execute(text("CREATE TABLE deeds (name VARCHAR(50) PRIMARY KEY)"))
    yield
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.execute(text("DROP TABLE deeds"))


async def count(databases: Databases) -> int:
    async with databases.autocommit(APPLICATION_BIND) as connection:
        found: int = (await connection.execute(COUNT)).scalar_one()
        return found


async def test_a_transaction_commits_at_its_end(databases: Databases) -> None:
    async with databases.transaction(APPLICATION_BIND) as session:
        await session.execute(INSERT, {"name": "a"})
        await session.execute(INSERT, {"name": "b"})
    with databases.sync_transaction(APPLICATION_BIND) as blocking:
        blocking.execute(INSERT, {"name": "c"})
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.execute(INSERT, {"name": "d"})
    with databases.sync_begin(APPLICATION_BIND) as connection_sync:
        connection_sync.execute(INSERT, {"name": "e"})
    assert await count(databases) == 5


async def test_an_error_undoes_all(databases: Databases) -> None:
    async def in_session() -> None:
        async with databases.transaction(APPLICATION_BIND) as session:
            await session.execute(INSERT, {"name": "a"})
            raise Stop

    async def on_connection() -> None:
        async with databases.begin(APPLICATION_BIND) as connection:
            await connection.execute(INSERT, {"name": "a"})
            raise Stop

    def blocking() -> None:
        with databases.sync_transaction(APPLICATION_BIND) as session:
            session.execute(INSERT, {"name": "a"})
            raise Stop

    with pytest.raises(Stop):
        await in_session()
    with pytest.raises(Stop):
        await on_connection()
    with pytest.raises(Stop):
        blocking()
    assert await count(databases) == 0


async def test_a_cancelled_transaction_is_undone(databases: Databases) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with databases.transaction(APPLICATION_BIND) as session:
            await session.execute(INSERT, {"name": "a"})
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await count(databases) == 0
    assert databases.pool_in_use(APPLICATION_BIND) == 0


async def test_autocommit_keeps_each_statement(databases: Databases) -> None:
    async def work() -> None:
        async with databases.autocommit(APPLICATION_BIND) as connection:
            await connection.execute(INSERT, {"name": "a"})
            raise Stop

    with pytest.raises(Stop):
        await work()
    assert await count(databases) == 1
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        connection.execute(INSERT, {"name": "b"})
    # A connection that comes back from autocommit has transactions again.
    with pytest.raises(Stop):
        _insert_and_stop(databases)
    assert await count(databases) == 2


def _insert_and_stop(databases: Databases) -> None:
    with databases.sync_transaction(APPLICATION_BIND) as session:
        session.execute(INSERT, {"name": "c"})
        raise Stop


async def test_a_session_that_nobody_commits_leaves_nothing(databases: Databases) -> None:
    async with databases.create_async_session(APPLICATION_BIND) as session:
        await session.execute(INSERT, {"name": "a"})
    assert await count(databases) == 0
    async with databases.create_async_session(APPLICATION_BIND) as session:
        await session.execute(INSERT, {"name": "a"})
        await databases.commit(session)
    with databases.create_session(APPLICATION_BIND) as blocking:
        blocking.execute(INSERT, {"name": "b"})
        databases.commit_sync(blocking)
    assert await count(databases) == 2


async def test_readers_see_only_what_is_committed(databases: Databases) -> None:
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.execute(INSERT, {"name": "a"})
        assert await count(databases) == 0
    assert await count(databases) == 1


async def test_many_writers_at_once_lose_nothing(databases: Databases) -> None:
    async def write(at: int) -> None:
        async with databases.transaction(APPLICATION_BIND) as session:
            await session.execute(COUNT)
            await session.execute(INSERT, {"name": f"n{at}"})

    await asyncio.gather(*(write(at) for at in range(40)))
    assert await count(databases) == 40
    assert databases.pool_in_use(APPLICATION_BIND) == 0


async def test_every_loop_has_its_own_engine(databases: Databases) -> None:
    ours = databases.get_engine(APPLICATION_BIND)
    assert databases.get_engine(APPLICATION_BIND) is ours
    theirs: list[Any] = []

    async def work() -> None:
        theirs.append(databases.get_engine(APPLICATION_BIND))
        async with databases.transaction(APPLICATION_BIND) as session:
            await session.execute(INSERT, {"name": threading.current_thread().name})
        await databases.dispose()

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert len({id(engine) for engine in (ours, *theirs)}) == 4
    assert await count(databases) == 3


async def test_disposed_databases_open_again(databases: Databases) -> None:
    first = databases.get_engine(APPLICATION_BIND)
    blocking = databases.get_sync_engine(APPLICATION_BIND)
    await databases.ping(APPLICATION_BIND)
    await databases.dispose()
    databases.dispose_sync()
    assert databases.get_engine(APPLICATION_BIND) is not first
    assert databases.get_sync_engine(APPLICATION_BIND) is not blocking
    await databases.ping(APPLICATION_BIND)
    databases.ping_sync(APPLICATION_BIND)


def _child(databases: Databases, inherited: int, queue: Any) -> None:
    async def work() -> None:
        async with databases.transaction(APPLICATION_BIND) as session:
            await session.execute(INSERT, {"name": "async child"})
        await databases.dispose()

    fresh = id(databases.get_sync_engine(APPLICATION_BIND)) != inherited
    with databases.sync_transaction(APPLICATION_BIND) as session:
        session.execute(INSERT, {"name": "child"})
    asyncio.run(work())
    databases.dispose_sync()
    queue.put(fresh)


def test_f51_a_child_process_never_uses_its_parents_connections(shared_url: str) -> None:
    databases = make_databases(shared_url)
    engine = databases.get_sync_engine(APPLICATION_BIND)
    databases.ping_sync(APPLICATION_BIND)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    # The parent holds a lock of its own, as a busy thread would at the moment of the fork.
    with databases._lock:  # noqa: SLF001 - what the test is about
        child = context.Process(target=_child, args=(databases, id(engine), queue))
        child.start()
    assert queue.get(timeout=60) is True
    child.join()
    assert child.exitcode == 0
    # The connection that was open at the fork still works.
    databases.ping_sync(APPLICATION_BIND)
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        assert connection.execute(COUNT).scalar_one() == 2
    databases.dispose_sync()


@pytest.mark.parametrize("method", ["reading", "transaction"])
async def test_a_session_takes_one_connection_for_models_and_plain_sql(
    databases: Databases, method: str
) -> None:
    """With two, as many sessions as the pool has connections would wait for each other."""
    async with getattr(databases, method)(APPLICATION_BIND) as session:
        await session.execute(COUNT)
        await session.connection(bind_arguments={"mapper": User})
        assert databases.pool_in_use(APPLICATION_BIND) == 1


async def test_a_warm_pool_holds_its_connections_ready(databases: Databases) -> None:
    await databases.dispose()
    await databases.warm_up(APPLICATION_BIND)
    pool: Any = databases.get_engine(APPLICATION_BIND).sync_engine.pool
    assert pool.checkedin() == databases.options(APPLICATION_BIND).pool_size
    assert databases.pool_in_use(APPLICATION_BIND) == 0
