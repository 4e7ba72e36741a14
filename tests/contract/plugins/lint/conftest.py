"""One application for each database that the lint tables can live in."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.common.logging import configure_logging
from app.config import Settings
from app.plugins.lint.caching import forget_known_lints
from app.plugins.lint.sandbox import close_sandboxes
from app.tasks.services import open_services
from tests.contract.api.harness import Recorder, build, make_callers, migrate
from tests.contract.plugins.lint.yard import Yard, lint_database, settings_for


@pytest.fixture(scope="module", params=["sqlite", "mysql"])
def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("yard")
    settings = settings_for(folder, lint_database(request.param, request))
    with _opened(settings, folder) as opened:
        yield opened
    close_sandboxes()


@pytest.fixture(params=["sqlite", "mysql"])
def knowing_yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    """A yard that remembers what it has linted, and has linted nothing yet."""
    forget_known_lints()
    lint_url = lint_database(request.param, request)
    with _opened(settings_for(tmp_path, lint_url, cache_seconds=60), tmp_path) as opened:
        yield opened
    forget_known_lints()


@contextlib.contextmanager
def _opened(settings: Settings, folder: Path) -> Iterator[Yard]:
    configure_logging("CRITICAL", "json")
    migrate(settings)
    transport = Recorder()
    app, services = build(settings, transport)
    worker = open_services(settings, transport=Recorder())
    with TestClient(app, raise_server_exceptions=False) as client, asyncio.Runner() as runner:
        assert client.portal is not None
        tokens = client.portal.call(make_callers, services)
        files = folder / "files"
        yield Yard(settings, client, transport, tokens, files, services.core, worker, runner)
        runner.run(worker.close())
        worker.databases.dispose_sync()
