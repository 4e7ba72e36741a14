"""Without the application database: 503 and when to come back; the process stays alive."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.auth.principal import Principal
from app.common.ids import new_id
from app.config.loading import load_settings
from app.config.settings import Settings
from tests.contract.api.harness import SAMPLE, Recorder, build
from tests.contract.api.test_every_route import assert_problem


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    environ = {
        "TASKYARD_PLUGINS": f'["{SAMPLE}"]',
        "TASKYARD_SECRETS_DIR": str(tmp_path / "none"),
        "TASKYARD_DATABASES__POSTGRES_MAIN__URL": "postgresql+asyncpg://nobody:s3cret@127.0.0.1:1/x",
    }
    return load_settings(data_dir=tmp_path, environ=environ)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    app, _ = build(settings, Recorder())
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_requests_are_503_and_tell_when_to_come_back(client: TestClient) -> None:
    form = {"grant_type": "password", "username": "a", "password": "b"}
    answer = client.post("/api/v1/auth/token", data=form)
    assert_problem(answer, 503)
    assert answer.json()["code"] == "DATABASE_UNAVAILABLE"
    assert int(answer.headers["retry-after"]) > 0
    assert "s3cret" not in answer.text


def test_a_submission_is_503_by_the_short_way_and_by_the_route(settings: Settings) -> None:
    app, services = build(settings, Recorder())
    somebody = Principal(
        id=new_id(), name="ada", kind="user", role="operator", scopes=frozenset({"tasks:run"})
    )
    headers = {"Authorization": f"Bearer {services.tokens.issue(somebody)}"}
    body = {"task": "sample.add_numbers", "params": {"a": 1}}
    with TestClient(app, raise_server_exceptions=False) as client:
        lane = client.post("/api/v1/tasks/run", json=body, headers=headers)
        headers["Prefer"] = "respond-async"
        route = client.post("/api/v1/tasks/run", json=body, headers=headers)
    for answer in (lane, route):
        assert_problem(answer, 503)
        assert answer.json()["code"] == "DATABASE_UNAVAILABLE"
    assert lane.headers["retry-after"] == route.headers["retry-after"]
    assert {**lane.json(), "trace_id": None} == {**route.json(), "trace_id": None}


def test_the_process_is_alive_and_not_ready(client: TestClient) -> None:
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503
    report = client.get("/api/v1/health")
    assert (report.status_code, report.json()["status"]) == (503, "failed")
    assert report.json()["checks"]["postgres_main"]["status"] == "failed"
    assert report.json()["checks"]["storage"]["status"] == "ok"
