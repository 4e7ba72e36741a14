from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.db import Databases
from tests.contract.db.making import DIALECTS, make_databases, new_database


@pytest.fixture(scope="session", params=DIALECTS)
def shared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that the tests of one session share."""
    return new_database(request.param, request, tmp_path_factory.mktemp("db"))


@pytest.fixture
async def databases(shared_url: str) -> AsyncIterator[Databases]:
    opened = make_databases(shared_url)
    yield opened
    await opened.dispose()
    opened.dispose_sync()


@pytest.fixture(params=DIALECTS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database for this test alone."""
    return new_database(request.param, request, tmp_path)
