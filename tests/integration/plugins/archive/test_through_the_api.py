"""`archive.expand_zip` as its users meet it: submitted over HTTP, run by the embedded worker."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.config import load_settings
from app.main import create_embedded_api, first_admin, migrate
from app.storage.local import LocalStorage
from tests.unit.storage.zip_builder import SQL, Item, build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    settings = load_settings(data_dir=folder).model_copy(update={"plugins": ["archive"]})
    migrate(settings)
    _, token = asyncio.run(first_admin(settings))
    with TestClient(create_embedded_api(settings)) as opened:
        opened.headers["Authorization"] = f"Bearer {token}"
        yield opened


@pytest.fixture
def storage(folder: Path) -> LocalStorage:
    return LocalStorage(folder / "files")


def run(client: TestClient, **params: str) -> Any:
    answer = client.post(
        "/api/v1/tasks/run",
        json={"task": "archive.expand_zip", "params": params},
        headers={"Prefer": "wait=30"},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_good_archive_is_expanded(client: TestClient, storage: LocalStorage) -> None:
    storage.put("in/good.zip", build(Item(b"a/b.sql"), Item(b"../evil.sql")))
    done = run(client, source="in/good.zip")
    assert done["status"] == "SUCCEEDED", done
    target = f"expanded/{done['task_id']}"
    assert done["result"]["outcome"] == "partial"
    assert done["result"]["files"][0]["key"] == f"{target}/files/000001.sql"
    assert done["result"]["rejected"][0]["reason_code"] == "NAME_TRAVERSAL"
    assert storage.get(f"{target}/files/000001.sql") == SQL
    assert storage.list("tmp") == []


def test_a_hostile_archive_fails_the_run_with_its_reason(
    client: TestClient, storage: LocalStorage
) -> None:
    storage.put("in/bad.zip", build(Item(b"../evil.sql")))
    done = run(client, source="in/bad.zip", target="bad")
    assert (done["status"], done["attempt"]) == ("FAILED", 1)
    assert done["error"]["type"] == "ArchiveUnusable"
    assert "evil.sql" in done["error"]["message"]
    assert done["dead_letter_id"]
    assert storage.list("bad") == []


@pytest.mark.parametrize("source", ["/etc/passwd", "../x.zip", "a\\b", "", "a//b", "C:/x"])
def test_a_key_outside_of_the_storage_is_refused_at_submission(
    client: TestClient, source: str
) -> None:
    body = {"task": "archive.expand_zip", "params": {"source": source}}
    answer = client.post("/api/v1/tasks/run", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["loc"][-1] == "source"


def test_the_schema_names_both_parameters(client: TestClient) -> None:
    task = client.get("/api/v1/tasks/registered/archive.expand_zip").json()
    assert set(task["params_schema"]["properties"]) == {"source", "target"}
    assert task["params_schema"]["required"] == ["source"]
    assert "rejected_count" in task["result_schema"]["properties"]
