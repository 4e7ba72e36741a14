from pathlib import Path

import pytest
from pydantic import SecretStr

from app.api.health import HealthMonitor
from app.api.migration_check import MigrationCheck
from app.common.errors import ServiceUnavailable
from app.config.settings import APPLICATION_BIND, DatabaseSettings, Settings
from app.db import Databases
from app.db.migrations import downgrade
from app.tasks.services import load_code
from tests.contract.api.harness import embedded_settings, migrate


def _check(settings: Settings) -> MigrationCheck:
    return MigrationCheck(Databases(settings.databases), load_code(settings)[0])


async def test_an_empty_database_is_not_ready(tmp_path: Path) -> None:
    settings = embedded_settings(tmp_path)
    check = _check(settings)
    with pytest.raises(ServiceUnavailable, match="core/postgres_main"):
        await check()
    report = await HealthMonitor({"migrations": check}, "1").report()
    assert not report.is_ready
    migrate(settings)
    await check()


async def test_the_answer_is_kept_once_all_is_well(tmp_path: Path) -> None:
    settings = embedded_settings(tmp_path)
    migrate(settings)
    check = _check(settings)
    await check()
    databases = Databases(settings.databases)
    downgrade(databases, load_code(settings)[0], owner="core", to="base")
    await check()
    with pytest.raises(ServiceUnavailable):
        await _check(settings)()


async def test_newer_tables_than_this_code_knows_are_no_fault(tmp_path: Path) -> None:
    settings = embedded_settings(tmp_path)
    migrate(settings)
    databases = Databases(settings.databases)
    with databases.sync_begin(APPLICATION_BIND) as connection:
        connection.exec_driver_sql("UPDATE alembic_version_core SET version_num = '9999_later'")
    await _check(settings)()


async def test_a_plugins_database_that_is_away_has_a_check_of_its_own(tmp_path: Path) -> None:
    away = "postgresql+asyncpg://nobody@127.0.0.1:1/none"
    settings = embedded_settings(tmp_path)
    migrate(settings)
    databases = {**settings.databases, "mysql_lint": _at(away)}
    plugins = load_code(settings)[0]
    await MigrationCheck(Databases(databases), plugins)()
    databases = {**settings.databases, APPLICATION_BIND: _at(away)}
    with pytest.raises(ServiceUnavailable):
        await MigrationCheck(Databases(databases), plugins)()


def _at(url: str) -> DatabaseSettings:
    return DatabaseSettings(url=SecretStr(url))
