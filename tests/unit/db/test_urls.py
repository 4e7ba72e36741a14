"""Which database URLs are accepted, and what each means to the blocking drivers."""

from pathlib import Path

import pytest

from app.common.errors import ConfigurationError
from app.db.errors import DatabaseUrlError
from app.db.urls import parse_bind_url


@pytest.mark.parametrize(
    ("text", "dialect", "twin"),
    [
        (
            "postgresql+asyncpg://u:p%40ss@h:5433/d",
            "postgresql",
            "postgresql+psycopg://u:p%40ss@h:5433/d",
        ),
        (
            "mysql+aiomysql://u:p@h/d?charset=utf8mb4",
            "mysql",
            "mysql+pymysql://u:p@h/d?charset=utf8mb4",
        ),
        ("mariadb+aiomysql://u@h/d", "mysql", "mariadb+pymysql://u@h/d"),
        ("sqlite+aiosqlite:////var/x.db", "sqlite", "sqlite+pysqlite:////var/x.db"),
        (
            "postgresql+asyncpg://h/d?ssl=verify-full",
            "postgresql",
            "postgresql+psycopg://h/d?sslmode=verify-full",
        ),
    ],
    ids=["postgresql", "mysql", "mariadb", "sqlite", "tls"],
)
def test_the_blocking_twin_is_derived(text: str, dialect: str, twin: str) -> None:
    url = parse_bind_url("main", text)
    assert url.dialect == dialect
    assert url.async_url.render_as_string(hide_password=False) == text
    assert url.sync_url.render_as_string(hide_password=False) == twin


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:hunter2@h/d",
        "postgresql+psycopg://u:hunter2@h/d",
        "mysql+pymysql://u:hunter2@h/d",
        "oracle://u:hunter2@h/d",
        "nonsense hunter2",
        "postgresql+asyncpg//hunter2",
        "",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
        "sqlite+aiosqlite:///file:x?mode=memory",
    ],
)
def test_another_url_stops_the_start_and_is_not_shown(text: str) -> None:
    with pytest.raises(DatabaseUrlError) as caught:
        parse_bind_url("main", text)
    error = caught.value
    assert isinstance(error, ConfigurationError)
    assert "'main'" in error.detail
    assert error.hint
    assert "hunter2" not in f"{error!r} {error.detail} {error.hint} {error.__cause__!r}"


def test_a_relative_sqlite_path_is_fixed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = parse_bind_url("main", "sqlite+aiosqlite:///sub/x.db")
    monkeypatch.chdir("/")
    assert url.sqlite_file == tmp_path / "sub/x.db"
    assert url.sync_url.database == str(tmp_path / "sub/x.db")
    assert parse_bind_url("main", "mysql+aiomysql://h/d").sqlite_file is None


def test_a_url_prints_without_its_password() -> None:
    assert "hunter2" not in repr(parse_bind_url("main", "postgresql+asyncpg://u:hunter2@h/d"))
