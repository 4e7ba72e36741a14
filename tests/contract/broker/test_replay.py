"""What fails for good is replayed over HTTP and runs on a worker: on RabbitMQ and embedded."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.api.application import create_app
from app.api.services import ApiServices
from app.auth.identity import open_identity, open_tokens
from app.celery_worker.publisher import open_transport
from app.config import Settings, load_settings
from app.tasks.services import open_services
from tests.contract.broker.yards import Yard, await_it, embedded_yard, real_yard
from tests.services import Services

BASE = "/api/v1/dead-letters"
SECRET = "a secret of a test, longer than 32 bytes"


@dataclass
class Door:
    """The API of a yard, as an administrator calls it."""

    yard: Yard
    client: TestClient
    token: str

    def call(self, method: str, path: str, **options: Any) -> Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.client.request(method, path, headers=headers, **options)

    def get(self, path: str) -> Any:
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def run(self, task: str, params: dict[str, Any], **more: Any) -> str:
        answer = self.call(
            "POST", "/api/v1/tasks/run", json={"task": task, "params": params, **more}
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task_id"])

    def dead_letter_of(self, run_id: str) -> dict[str, Any]:
        row = self.yard.await_status(run_id, "FAILED", "SUCCEEDED")

        def archived() -> dict[str, Any] | None:
            letter: dict[str, Any] = self.get(f"{BASE}/{row.dead_letter_id}")
            return letter if letter["message"] else None

        return await_it(archived)


@pytest.fixture(scope="module", params=["embedded", "real"])
def door(
    request: pytest.FixtureRequest, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("yard")
    opened = embedded_yard(folder) if request.param == "embedded" else real_yard(folder, services)
    with opened as yard:
        app_services = api_services(yard.settings)
        with TestClient(create_app(app_services), raise_server_exceptions=False) as client:
            assert client.portal is not None
            yield Door(yard, client, client.portal.call(make_admin, app_services))


def api_services(settings: Settings) -> ApiServices:
    core = open_services(settings, transport=open_transport(settings))
    signing = load_settings(
        data_dir=settings.data_dir, environ={"TASKYARD_AUTH__JWT__SECRET": SECRET}
    )
    tokens = open_tokens(signing)
    identity = open_identity(signing, core.databases, tokens)
    return ApiServices(core=core, identity=identity, tokens=tokens)


async def make_admin(services: ApiServices) -> str:
    await services.identity.create_user("ada", "password of ada", "operator")
    return await services.identity.issue_for("ada")


def test_a_run_that_always_fails_succeeds_with_other_params(door: Door, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path / "missing"), "name": "first"}
    run_id = door.run("probe.note_name", params, options={"max_attempts": 2}, labels={"a": "b"})
    letter = door.dead_letter_of(run_id)
    assert (letter["error_type"], letter["attempts"]) == ("FileNotFoundError", 2)
    assert letter["headers"]["id"] == run_id
    assert letter["headers"]["x-error-type"] == "FileNotFoundError"
    place = f"{BASE}/{letter['id']}/replay"
    answer = door.call("POST", place, json={"params": {**params, "folder": str(tmp_path)}})
    assert answer.status_code == 202
    replay_id = answer.json()["task_id"]
    row = door.yard.await_status(replay_id, "SUCCEEDED", "FAILED")
    assert (row.status, row.replay_of, row.labels) == ("SUCCEEDED", run_id, {"a": "b"})
    assert (tmp_path / "order").read_text() == "first\n"
    assert door.call("POST", place).json()["run_id"] == replay_id
    (replay,) = door.get(f"{BASE}/{letter['id']}")["replays"]
    assert (replay["task_id"], replay["status"]) == (replay_id, "SUCCEEDED")


def test_a_mended_fault_is_replayed_by_filter_at_a_rate(door: Door, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    names = [f"name-{number}" for number in range(4)]
    letters = []
    for name in names:
        params = {"folder": str(folder), "name": name}
        run_id = door.run("probe.note_name", params, options={"max_attempts": 1})
        letters.append(door.dead_letter_of(run_id))
    folder.mkdir()
    body = {
        "filter": {"task": "probe.note_name", "since": letters[0]["created_at"]},
        "rate_per_second": 2,
    }
    assert door.call("POST", f"{BASE}/replay", json={**body, "dry_run": True}).json()["count"] == 4
    done = door.call("POST", f"{BASE}/replay", json=body).json()
    assert done["count"] == 4
    runs = door.get(done["links"]["runs"])["items"][::-1]
    rows = [door.yard.await_status(run["task_id"], "SUCCEEDED", "FAILED") for run in runs]
    assert [row.status for row in rows] == ["SUCCEEDED"] * 4
    assert all(row.started_at >= row.scheduled_for for row in rows[1:])
    assert (folder / "order").read_text().split() == names


def test_garbage_is_shown_and_cannot_be_replayed(door: Door) -> None:
    with door.yard.channel() as channel:
        message = channel.prepare_message(
            b"\xff\x00 no JSON",
            headers={"task": "probe.echo_text", "password": "canary"},
            content_type="application/json",
            content_encoding="utf-8",
        )
        queue = door.yard.topology.broker_queue("default", 5)
        channel.basic_publish(message, exchange="", routing_key=queue)

    def archived() -> list[Any] | None:
        return door.get(f"{BASE}?origin=broker&error_type=rejected")["items"] or None

    (found,) = await_it(archived)
    letter = door.get(f"{BASE}/{found['id']}")
    assert letter["message"]["body_encoding"] == "base64"
    assert letter["death_history"][0]["reason"] == "rejected"
    assert letter["death_history"][0]["queue"] == queue
    assert "canary" not in str(letter)
    answer = door.call("POST", f"{BASE}/{letter['id']}/replay")
    assert (answer.status_code, answer.json()["code"]) == (409, "DEAD_LETTER_HAS_NO_RUN")
    reason = "?reason=a%20foreign%20sender"
    assert door.call("DELETE", f"{BASE}/{letter['id']}{reason}").status_code == 204
    assert door.get(f"{BASE}?origin=broker")["items"] == []
