"""Column types and the database's clock mean the same on every dialect."""

import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    MetaData,
    Table,
    bindparam,
    insert,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.exc import StatementError

from app.common.clock import utc_now
from app.common.ids import new_id
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import (
    IdType,
    JsonType,
    UTCDateTime,
    db_now,
    db_now_plus,
    now_plus_sql,
    now_sql,
)

THINGS = Table(
    "type_things",
    MetaData(),
    Column("id", IdType, primary_key=True),
    Column("at", UTCDateTime),
    Column("made_at", UTCDateTime, server_default=db_now()),
    Column("plain", JsonType),
    Column("binary", JsonType(jsonb=True)),
)


@pytest.fixture(autouse=True)
async def table(databases: Databases) -> AsyncIterator[None]:
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.run_sync(THINGS.create)
    yield
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.run_sync(THINGS.drop)


async def store(databases: Databases, **values: Any) -> Any:
    """The row after a round trip through both drivers, which must agree."""
    key = values.setdefault("id", new_id())
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.execute(insert(THINGS).values(**values))
    query = select(THINGS).where(THINGS.c.id == key)
    async with databases.autocommit(APPLICATION_BIND) as connection:
        row = (await connection.execute(query)).one()
    with databases.sync_autocommit(APPLICATION_BIND) as blocking:
        assert blocking.execute(query).one() == row
    return row


async def test_an_id_is_text_of_36_characters(databases: Databases) -> None:
    key = new_id()
    row = await store(databases, id=uuid.UUID(key))
    assert row.id == key
    async with databases.autocommit(APPLICATION_BIND) as connection:
        found = select(THINGS.c.id).where(THINGS.c.id == key.upper())
        assert (await connection.execute(found)).scalar_one() == key


async def test_what_is_no_id_is_refused(databases: Databases) -> None:
    for wrong in ("x", "", f"{{{new_id()}}}", new_id().replace("-", "")):
        with pytest.raises(StatementError, match="an id is a UUID"):
            await store(databases, id=wrong)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        datetime(2026, 1, 2, 3, 4, 5, 7, tzinfo=timezone(timedelta(hours=-9, minutes=-30))),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    ],
    ids=["micro", "whole", "zone", "epoch", "last"],
)
async def test_a_moment_keeps_its_microseconds(databases: Databases, moment: datetime) -> None:
    row = await store(databases, at=moment)
    assert row.at == moment
    assert row.at.utcoffset() == timedelta(0)


async def test_a_naive_datetime_is_refused(databases: Databases) -> None:
    with pytest.raises(StatementError, match="naive"):
        await store(databases, at=datetime(2026, 1, 1))  # noqa: DTZ001 - naive on purpose


@pytest.mark.parametrize("column", ["plain", "binary"])
@pytest.mark.parametrize(
    "value",
    [{"a": [1, 2.5, None, True, "ü€😀"]}, [], "text", 0, False, {"é": {}}, 2**53],
    ids=[str(at) for at in range(7)],
)
async def test_json_comes_back_as_it_went(databases: Databases, column: str, value: Any) -> None:
    row = await store(databases, **{column: value})
    stored = getattr(row, column)
    assert stored == value
    assert type(stored) is type(value)


async def test_no_json_is_null(databases: Databases) -> None:
    await store(databases, plain=None)
    async with databases.autocommit(APPLICATION_BIND) as connection:
        query = text("SELECT COUNT(*) FROM type_things WHERE plain IS NULL")
        assert (await connection.execute(query)).scalar_one() == 1


async def test_json_that_json_cannot_say_is_refused(databases: Databases) -> None:
    with pytest.raises(StatementError):
        await store(databases, plain=object())


async def test_the_clock_is_aware_and_near_ours(databases: Databases) -> None:
    row = await store(databases, at=db_now())
    assert abs(row.at - utc_now()) < timedelta(minutes=5)
    assert abs(row.made_at - utc_now()) < timedelta(minutes=5)


async def test_the_clock_compares_with_stored_and_given_moments(databases: Databases) -> None:
    now = utc_now()
    rows = {"past": now - timedelta(hours=1), "future": now + timedelta(hours=1)}
    ids = {name: (await store(databases, at=at)).id for name, at in rows.items()}
    async with databases.autocommit(APPLICATION_BIND) as connection:

        async def found(condition: Any) -> set[str]:
            result = await connection.execute(select(THINGS.c.id).where(condition))
            return set(result.scalars())

        assert await found(THINGS.c.at <= db_now()) == {ids["past"]}
        assert await found(THINGS.c.at > db_now()) == {ids["future"]}
        assert await found(THINGS.c.at < db_now_plus(3600 + 60)) == set(ids.values())
        assert await found(THINGS.c.at < db_now_plus(-3600 - 60)) == set()
        assert await found(THINGS.c.at == rows["past"]) == {ids["past"]}
        assert await found(THINGS.c.at.between(now - timedelta(hours=2), now)) == {ids["past"]}


@pytest.mark.parametrize("seconds", [0.5, -0.5, 90, 1.5, 86400.25, 0.001])
async def test_seconds_are_added_exactly(databases: Databases, seconds: float) -> None:
    async with databases.autocommit(APPLICATION_BIND) as connection:
        query = select(db_now(), db_now_plus(seconds))
        now, later = (await connection.execute(query)).one()
    assert later - now == timedelta(seconds=seconds)


async def test_seconds_can_be_an_expression(databases: Databases) -> None:
    row = await store(databases, at=db_now(), plain=0)
    statement = update(THINGS).values(at=db_now_plus(literal_column("20") + bindparam("more", 1.5)))
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.execute(statement)
        changed = (await connection.execute(select(THINGS.c.at))).scalar_one()
    assert timedelta(seconds=21) < changed - row.at < timedelta(minutes=5)


async def test_hand_written_sql_has_the_same_clock(databases: Databases) -> None:
    dialect = databases.dialect(APPLICATION_BIND)
    row = await store(databases)
    async with databases.autocommit(APPLICATION_BIND) as connection:
        statement = text(f"UPDATE type_things SET at = {now_plus_sql(dialect, ':s')}")
        await connection.execute(statement, {"s": 10.5})
        query = text(f"SELECT COUNT(*) FROM type_things WHERE at > {now_sql(dialect)}")
        assert (await connection.execute(query)).scalar_one() == 1
        moment = (await connection.execute(select(THINGS.c.at))).scalar_one()
    assert timedelta(seconds=10) < moment - row.made_at < timedelta(minutes=5)


@pytest.mark.parametrize("sql", [now_sql("sqlite"), now_plus_sql("sqlite", "1.5")])
def test_sqlites_clock_has_the_width_of_stored_moments(sql: str) -> None:
    # Texts of one width compare as times do.
    with closing(sqlite3.connect(":memory:")) as connection:
        (moment,) = connection.execute(f"SELECT {sql}").fetchone()
    assert len(moment) == len("2026-01-01 00:00:00.000000")


async def test_moments_sort_as_time_does(databases: Databases) -> None:
    start = utc_now().replace(microsecond=0)
    moments = [start + timedelta(microseconds=step) for step in (0, 1, 10, 1000, 999_999)]
    for moment in reversed(moments):
        await store(databases, at=moment)
    async with databases.autocommit(APPLICATION_BIND) as connection:
        ordered = (await connection.execute(select(THINGS.c.at).order_by(THINGS.c.at))).scalars()
        assert list(ordered) == moments
