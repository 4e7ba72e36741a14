"""Many rows at once are the rows that single INSERTs make, and their faults are ours."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, select, text

from app.common.ids import new_id
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.bulk import insert_rows
from app.db.errors import DatabaseBusy, DatabaseUnavailable
from app.db.types import IdType, JsonType, UTCDateTime, db_now

THINGS = Table(
    "bulk_things",
    MetaData(),
    Column("id", IdType, primary_key=True),
    Column("at", UTCDateTime),
    Column("made_at", UTCDateTime, server_default=db_now(), nullable=False),
    Column("plain", JsonType),
    Column("binary", JsonType(jsonb=True)),
    Column("name", String(50)),
    Column("attempt", Integer, default=7, nullable=False),
)


@pytest.fixture(autouse=True)
async def table(databases: Databases) -> AsyncIterator[None]:
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.run_sync(THINGS.create)
    yield
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.run_sync(THINGS.drop)


def thing(**values: Any) -> dict[str, Any]:
    return {
        "id": new_id(),
        "at": datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "plain": {"a": [1, "ü", None]},
        "binary": {},
        "name": "tab\t, newline\n, \\N, \\. and 'quotes'",
        **values,
    }


async def insert(databases: Databases, rows: list[dict[str, Any]]) -> None:
    async with databases.begin(APPLICATION_BIND) as connection:
        await insert_rows(connection, APPLICATION_BIND, THINGS, rows)


async def stored(databases: Databases) -> list[dict[str, Any]]:
    async with databases.autocommit(APPLICATION_BIND) as connection:
        rows = await connection.execute(select(THINGS).order_by(THINGS.c.id))
        return [dict(row) for row in rows.mappings()]


async def test_the_rows_come_back_with_their_defaults(databases: Databases) -> None:
    rows = [thing(), thing(at=None, plain=None, binary={"x": 1.5}, name=None)]
    await insert(databases, rows)
    back = await stored(databases)
    assert [{name: row[name] for name in rows[0]} for row in back] == rows
    assert [row["attempt"] for row in back] == [7, 7]
    assert all(row["made_at"].year >= 2026 for row in back)


async def test_the_order_of_the_columns_does_not_count(databases: Databases) -> None:
    first, second = thing(name="1"), dict(reversed(thing(name="2").items()))
    await insert(databases, [first, second])
    assert [row["name"] for row in await stored(databases)] == ["1", "2"]


async def test_a_transaction_that_fails_leaves_no_row(databases: Databases) -> None:
    async def half() -> None:
        async with databases.begin(APPLICATION_BIND) as connection:
            await insert_rows(connection, APPLICATION_BIND, THINGS, [thing()])
            raise InterruptedError

    with pytest.raises(InterruptedError):
        await half()
    assert await stored(databases) == []


async def test_no_rows_are_no_statement(databases: Databases) -> None:
    await insert(databases, [])
    assert await stored(databases) == []


async def _blocked(databases: Databases, timeout: str) -> None:
    """Insert into a table that somebody else has locked."""
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.execute(text(f"SET LOCAL lock_timeout = '{timeout}'"))
        await insert_rows(connection, APPLICATION_BIND, THINGS, [thing()])


async def test_a_lock_that_lasts_is_a_busy_database(databases: Databases) -> None:
    if databases.dialect(APPLICATION_BIND) != "postgresql":
        pytest.skip("only PostgreSQL has a COPY")
    async with databases.begin(APPLICATION_BIND) as holder:
        await holder.execute(text("LOCK TABLE bulk_things IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DatabaseBusy):
            await _blocked(databases, "200ms")
    await insert(databases, [thing()])
    assert len(await stored(databases)) == 1


async def test_a_connection_that_dies_is_an_unavailable_database(databases: Databases) -> None:
    if databases.dialect(APPLICATION_BIND) != "postgresql":
        pytest.skip("only PostgreSQL has a COPY")
    kill = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )
    async with databases.begin(APPLICATION_BIND) as holder:
        await holder.execute(text("LOCK TABLE bulk_things IN ACCESS EXCLUSIVE MODE"))
        copying = asyncio.create_task(_blocked(databases, "30s"))
        async with databases.autocommit(APPLICATION_BIND) as killer:
            while not (await killer.execute(kill)).all():
                assert not copying.done()
                await asyncio.sleep(0.05)
        with pytest.raises(DatabaseUnavailable):
            await copying
    await insert(databases, [thing()])
    assert len(await stored(databases)) == 1
