"""One application for each database that the lint tables can live in."""

import asyncio
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.common.logging import configure_logging
from app.plugins.lint.sandbox import close_sandboxes
from app.tasks.services import open_services
from tests.contract.api.harness import Recorder, build, make_callers, migrate
from tests.contract.plugins.lint.yard import Yard, lint_database, settings_for


@pytest.fixture(scope="module", params=["sqlite", "mysql"])
def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    configure_logging("CRITICAL", "json")
    folder = tmp_path_factory.mktemp("yard")
    settings = settings_for(folder, lint_database(request.param, request))
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
    close_sandboxes()
