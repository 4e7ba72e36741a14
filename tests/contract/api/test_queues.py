"""The routes of queues and of explanations."""

from collections.abc import Iterator

import pytest

from tests.contract.api.harness import Api
from tests.contract.api.test_every_route import assert_problem

BASE = "/api/v1/queues"
FIELDS = {
    "name",
    "ready",
    "unacknowledged",
    "delayed",
    "dead",
    "oldest_age_seconds",
    "consumers",
    "paused",
    "paused_at",
    "paused_by",
    "pause_reason",
}


@pytest.fixture(autouse=True)
def _resumed(api: Api) -> Iterator[None]:
    yield
    assert api.post(f"{BASE}/default/resume", "admin").status_code == 200


def test_every_queue_is_listed(api: Api) -> None:
    page = api.get(BASE, "viewer").json()
    names = [item["name"] for item in page["items"]]
    assert names == sorted(names)
    assert "default" in names
    assert page["next_cursor"] is None
    assert {frozenset(item) for item in page["items"]} == {frozenset(FIELDS)}


def test_a_pause_is_shown_until_it_ends(api: Api) -> None:
    paused = api.post(f"{BASE}/default/pause", json={"reason": "stock-taking"}).json()
    assert (paused["paused"], paused["pause_reason"]) == (True, "stock-taking")
    assert paused["paused_at"].endswith("Z")
    listed = {item["name"]: item for item in api.get(BASE).json()["items"]}
    assert listed["default"]["paused_by"] == paused["paused_by"] is not None
    resumed = api.post(f"{BASE}/default/resume").json()
    assert (resumed["paused"], resumed["paused_at"]) == (False, None)


def test_a_tenant_sees_the_pause_and_not_who_made_it(api: Api) -> None:
    api.post(f"{BASE}/default/pause", json={"reason": "secret"})
    listed = {item["name"]: item for item in api.get(BASE, "foreigner").json()["items"]}
    default = listed["default"]
    assert (default["paused"], default["paused_by"], default["pause_reason"]) == (True, None, None)


def test_who_may_not_change_a_queue(api: Api) -> None:
    for verb in ("pause", "resume"):
        assert_problem(api.post(f"{BASE}/default/{verb}", "viewer"), 403)
        assert_problem(api.post(f"{BASE}/default/{verb}", "foreigner"), 403)


@pytest.mark.parametrize("body", [{"reason": ""}, {"reason": 1}, {"why": "x"}, []])
def test_a_wrong_body_changes_nothing(api: Api, body: object) -> None:
    assert_problem(api.post(f"{BASE}/default/pause", json=body), 422)
    assert not {item["paused"] for item in api.get(BASE).json()["items"]} - {False}


def test_an_unknown_queue_is_404(api: Api) -> None:
    answer = api.post(f"{BASE}/nowhere/pause")
    assert_problem(answer, 404)
    assert answer.json()["code"] == "QUEUE_NOT_FOUND"


def test_a_run_is_explained(api: Api) -> None:
    run_id = api.run("sample.add_numbers", {"a": 1, "b": 2}, options={"delay_seconds": 60})
    path = api.get(f"/api/v1/tasks/{run_id}").json()["links"]["explain"]
    told = api.get(path, "viewer").json()
    assert (told["task_id"], told["status"]) == (run_id, "SCHEDULED")
    # Behind it may stand that its message is still to be sent.
    reason = told["reasons"][0]
    assert reason.keys() == {"code", "message", "detail"}
    assert reason["code"] == "NOT_DUE"
    assert_problem(api.get(path, "foreigner"), 404)


def test_the_registry_tells_the_limits(api: Api) -> None:
    task = api.get("/api/v1/tasks/registered/sample.add_numbers").json()
    assert task["limits"] == {"rate_limit": None, "max_concurrency": None, "concurrency_key": None}
