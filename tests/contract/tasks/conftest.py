"""The same cases on SQLite and on PostgreSQL."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.config import Settings
from tests.harness import Installation, migrate, settings_on

Install = Callable[..., Installation]
_TABLES = (
    "batches",
    "task_runs",
    "dead_letters",
    "derived_tasks",
    "idempotency_keys",
    "leases",
    "rate_buckets",
    "queue_pauses",
    "schedules",
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def installed_settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    folder: Path = tmp_path_factory.mktemp("installation")
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("services").postgres_url
    settings = settings_on(folder, postgres_url=url)
    migrate(settings)
    return settings


@pytest.fixture
def install(installed_settings: Settings) -> Iterator[Install]:
    """A function that makes an installation with the given tasks; the tables begin empty."""
    _empty(installed_settings)
    made: list[Installation] = []

    def make(*functions: Callable[..., Any]) -> Installation:
        made.append(Installation(installed_settings, functions))
        return made[-1]

    yield make
    for installation in made:
        installation.close()


def _empty(settings: Settings) -> None:
    from app.db import Databases

    databases = Databases(settings.databases)
    with databases.sync_begin("postgres_main") as connection:
        for table in _TABLES:
            connection.execute(text(f"DELETE FROM {table}"))
    databases.dispose_sync()
