"""Databases for tests: the same cases run on every dialect."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.config.settings import APPLICATION_BIND, DatabaseSettings
from app.db import Databases
from tests.services import Services

DIALECTS = ("sqlite", "postgresql", "mysql")
_SERVICES = {"postgresql": "postgres", "mysql": "mysql"}


def new_database(dialect: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The asynchronous URL of an empty database; skips when its server is not here."""
    if dialect == "sqlite":
        return f"sqlite+aiosqlite:///{folder}/test.db"
    services: Services = request.getfixturevalue("services")
    return services.create_database(_SERVICES[dialect])


def options(url: str, **changes: Any) -> DatabaseSettings:
    return DatabaseSettings(url=SecretStr(url), **changes)


def make_databases(url: str, bind: str = APPLICATION_BIND, **changes: Any) -> Databases:
    return Databases({bind: options(url, **changes)})
