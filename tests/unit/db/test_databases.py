"""Binds by name and the routing of models, on SQLite files."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import String, Table, select, text
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import app.db
from app.common.errors import ConfigurationError
from app.db import BaseMysql, BasePostgres, BindBase, Databases
from app.db.base import new_metadata, owner_of_module
from app.db.errors import DatabaseBusy, UnknownBind
from app.db.faults import classify
from tests.contract.db.making import options


class BaseReports(BindBase, DeclarativeBase):
    __bind_name__ = "reports"
    metadata = new_metadata()


class RoutedOrder(BasePostgres):
    __tablename__ = "routed_orders"
    name: Mapped[str] = mapped_column(String(20), primary_key=True)


class RoutedFile(BaseMysql):
    __tablename__ = "routed_files"
    name: Mapped[str] = mapped_column(String(20), primary_key=True)


class RoutedReport(BaseReports):
    __tablename__ = "routed_reports"
    name: Mapped[str] = mapped_column(String(20), primary_key=True)


def table_of(model: type[DeclarativeBase]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table


MODELS: dict[str, type[DeclarativeBase]] = {
    "postgres_main": RoutedOrder,
    "mysql_lint": RoutedFile,
    "reports": RoutedReport,
}


@pytest.fixture
async def databases(tmp_path: Path) -> AsyncIterator[Databases]:
    """Three binds in folders that do not exist yet, each with its model's table."""
    opened = Databases(
        {bind: options(f"sqlite+aiosqlite:///{tmp_path}/new/{bind}/x.db") for bind in MODELS}
    )
    for bind, model in MODELS.items():
        async with opened.begin(bind) as connection:
            await connection.run_sync(table_of(model).create)
    yield opened
    await opened.dispose()
    opened.dispose_sync()


def rows(databases: Databases, bind: str) -> list[str]:
    """What the file of the bind holds, past all of our code."""
    file = databases.url(bind).sqlite_file
    assert file is not None
    with sqlite3.connect(file) as connection:
        return [
            name for (name,) in connection.execute(f"SELECT name FROM {MODELS[bind].__tablename__}")
        ]


async def test_one_session_sends_each_model_to_its_database(databases: Databases) -> None:
    async with databases.transaction("postgres_main") as session:
        session.add_all([RoutedOrder(name="o"), RoutedFile(name="f"), RoutedReport(name="r")])
    assert [rows(databases, bind) for bind in MODELS] == [["o"], ["f"], ["r"]]
    with databases.sync_transaction("mysql_lint") as blocking:
        assert blocking.scalars(select(RoutedReport.name)).all() == ["r"]
        blocking.add_all([RoutedOrder(name="o2"), RoutedFile(name="f2")])
    assert [rows(databases, bind) for bind in MODELS] == [["o", "o2"], ["f", "f2"], ["r"]]


async def test_a_reading_session_sends_each_model_to_its_database(databases: Databases) -> None:
    async with databases.transaction("postgres_main") as session:
        session.add_all([RoutedOrder(name="o"), RoutedFile(name="f"), RoutedReport(name="r")])
    async with databases.reading("postgres_main") as reader:
        for model, name in ((RoutedOrder, "o"), (RoutedFile, "f"), (RoutedReport, "r")):
            assert (await reader.scalars(select(model.name))).all() == [name]
        kept = await reader.get(RoutedFile, "f")
    # What was read can be looked at after the session is closed.
    assert kept is not None
    assert kept.name == "f"


async def test_plain_sql_goes_to_the_bind_of_the_session(databases: Databases) -> None:
    for bind, model in MODELS.items():
        async with databases.transaction(bind) as session:
            await session.execute(text(f"INSERT INTO {model.__tablename__} VALUES ('x')"))
        assert rows(databases, bind) == ["x"]


async def test_a_model_whose_bind_is_not_configured_is_an_error(tmp_path: Path) -> None:
    databases = Databases({"postgres_main": options(f"sqlite+aiosqlite:///{tmp_path}/x.db")})
    async with databases.create_async_session("postgres_main") as session:
        # It goes to the session's own bind, where its table is not.
        with pytest.raises(Exception, match="no such table: routed_files") as caught:
            await session.scalars(select(RoutedFile))
        assert not isinstance(caught.value, UnboundExecutionError)
    await databases.dispose()


async def test_an_unknown_bind_lists_the_binds(databases: Databases) -> None:
    for use in (
        databases.get_engine,
        databases.get_sync_engine,
        databases.create_async_session,
        databases.create_session,
        databases.dialect,
        databases.pool_in_use,
        databases.options,
    ):
        with pytest.raises(UnknownBind) as caught:
            use("postgres_mian")
        assert "mysql_lint, postgres_main, reports" in caught.value.detail
        assert caught.value.hint == "Did you mean 'postgres_main'?"
    with pytest.raises(UnknownBind) as caught:
        databases.get_engine("warehouse")
    assert "databases.warehouse.url" in (caught.value.hint or "")
    assert databases.binds == ("mysql_lint", "postgres_main", "reports")


def test_an_async_engine_needs_a_loop(tmp_path: Path) -> None:
    databases = Databases({"postgres_main": options(f"sqlite+aiosqlite:///{tmp_path}/x.db")})
    with pytest.raises(RuntimeError, match="no running event loop"):
        databases.get_engine("postgres_main")


async def test_the_installed_databases_are_reached_through_functions(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.db, "_installed", [])
    with pytest.raises(ConfigurationError, match="No databases are installed"):
        app.db.get_engine("postgres_main")
    app.db.install(databases)
    assert app.db.installed() is databases
    assert app.db.get_engine("postgres_main") is databases.get_engine("postgres_main")
    async with app.db.create_async_session("postgres_main") as session:
        session.add(RoutedOrder(name="o"))
        await databases.commit(session)
    assert rows(databases, "postgres_main") == ["o"]


@pytest.mark.parametrize(
    ("pragma", "expected"),
    [("journal_mode", "wal"), ("synchronous", 1), ("foreign_keys", 1), ("busy_timeout", 10_000)],
)
async def test_sqlite_is_set_up_on_both_drivers(
    databases: Databases, pragma: str, expected: object
) -> None:
    query = text(f"PRAGMA {pragma}")
    async with databases.autocommit("reports") as connection:
        assert (await connection.execute(query)).scalar_one() == expected
    with databases.sync_autocommit("reports") as blocking:
        assert blocking.execute(query).scalar_one() == expected


async def test_a_sqlite_transaction_takes_the_write_lock_at_its_start(databases: Databases) -> None:
    file = databases.url("reports").sqlite_file
    assert file is not None
    other = sqlite3.connect(file, timeout=0, isolation_level=None)
    async with databases.transaction("reports") as session:
        await session.execute(text("SELECT 1"))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    # A statement on its own, and a session that only reads, go on beside the writer.
    async with databases.autocommit("reports") as connection:
        await connection.execute(text("SELECT * FROM routed_reports"))
    async with databases.reading("reports") as reader:
        assert (await reader.scalars(select(RoutedReport))).all() == []
    other.rollback()
    other.close()


def test_a_locked_sqlite_file_is_busy() -> None:
    assert classify(sqlite3.OperationalError("database is locked")) is DatabaseBusy
    assert classify(sqlite3.OperationalError("no such table: x")) is None
    assert classify(ValueError()) is None


async def test_pools_of_all_loops_are_counted(databases: Databases) -> None:
    inside = asyncio.Event()
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hold() -> None:
        async with databases.begin("reports"):
            loop.call_soon_threadsafe(inside.set)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(leave.wait(), loop))
        await databases.dispose()

    assert databases.pool_in_use("reports") == 0
    thread = asyncio.create_task(asyncio.to_thread(asyncio.run, hold()))
    await inside.wait()
    with databases.sync_autocommit("reports"):
        assert databases.pool_in_use("reports") == 2
        assert databases.pool_in_use("mysql_lint") == 0
    leave.set()
    await thread


@pytest.mark.parametrize(
    ("module", "owner"),
    [
        ("app.tasks.models", "core"),
        ("app.auth.models", "core"),
        ("app.plugins.lint.models", "lint"),
        ("word_tools.models", "word_tools"),
        ("application.models", "application"),
    ],
)
def test_a_table_belongs_to_the_package_of_its_model(module: str, owner: str) -> None:
    assert owner_of_module(module) == owner


def test_a_table_knows_its_owner_and_names_its_constraints() -> None:
    table = table_of(RoutedOrder)
    assert table.info["owner"] == "tests"
    assert table.primary_key.name == "pk_routed_orders"
