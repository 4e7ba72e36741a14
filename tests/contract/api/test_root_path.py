"""Below a path of a reverse proxy, links and the document name that path."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.contract.api.harness import (
    Api,
    Recorder,
    build,
    embedded_settings,
    make_callers,
    migrate,
)


@pytest.fixture
def below(tmp_path: Path) -> Iterator[Api]:
    settings = embedded_settings(tmp_path, TASKYARD_SERVER__ROOT_PATH="/yard")
    migrate(settings)
    transport = Recorder()
    app, services = build(settings, transport)
    with TestClient(app) as client:
        assert client.portal is not None
        tokens = client.portal.call(make_callers, services)
        yield Api(app, client, settings, transport, tokens)


def test_links_and_document_name_the_path(below: Api) -> None:
    body = {"task": "sample.add_numbers", "params": {"a": 1}}
    answer = below.post("/yard/api/v1/tasks/run", json=body)
    assert answer.headers["location"].startswith("/yard/api/v1/tasks/")
    assert below.get(answer.headers["location"]).status_code == 200
    document = below.get("/openapi.json", role=None).json()
    assert document["servers"] == [{"url": "/yard"}]
    flow = document["components"]["securitySchemes"]["password"]["flows"]["password"]
    assert flow["tokenUrl"] == "/yard/api/v1/auth/token"


def test_a_literal_path_stays_literal(below: Api) -> None:
    assert below.get("/yard/api/v1/tasks/run").headers["allow"] == "POST"
    assert below.get("/api/v1/tasks/run").headers["allow"] == "POST"
