"""Units of migrations, and the program as it is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, Table

import app.auth.models  # noqa: F401 - the core's tables
from app.db.base import BaseMysql, new_metadata
from app.db.migration_units import MigrationError, Unit, migrations_dir, units

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from pydantic import SecretStr
from app.config.settings import DatabaseSettings
from app.db import Databases
from app.db.migration_units import migrations_dir
from app.db.migrations import upgrade

url = SecretStr("sqlite+aiosqlite:///made.db")
databases = Databases({"postgres_main": DatabaseSettings(url=url)})
(step,) = upgrade(databases, [])
print(migrations_dir())
print(*step.applied)
"""


def test_the_core_is_a_unit() -> None:
    (core,) = units([])
    assert core.name == "core/postgres_main"
    assert core.version_table == "alembic_version_core"
    assert {table.name for table in core.tables()} >= {"users", "clients", "refresh_tokens"}
    assert migrations_dir() == ROOT / "migrations"


def test_a_table_of_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = new_metadata()
    Table("stray", metadata, Column("id", Integer))
    monkeypatch.setattr(BaseMysql, "metadata", metadata)
    unit = Unit(owner="lint", bind="mysql_lint", versions=Path())
    with pytest.raises(MigrationError, match="Nobody owns the table 'stray'"):
        unit.tables()


def test_a_bind_without_models_has_no_tables() -> None:
    assert Unit(owner="core", bind="unheard_of", versions=Path()).tables() == []


def test_an_installed_program_finds_its_migrations(tmp_path: Path) -> None:
    """As in the wheel, where the folder lies inside the package."""
    installed = tmp_path / "site"
    shutil.copytree(ROOT / "app", installed / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "migrations", installed / "app/_migrations")
    code = f"import sys; sys.path.insert(0, {str(installed)!r})\n{PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder, applied = done.stdout.splitlines()
    assert Path(folder) == installed / "app/_migrations"
    assert applied.startswith("0001_identities")
    assert (tmp_path / "made.db").is_file()
