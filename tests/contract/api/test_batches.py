import json
import uuid
from typing import Any

import pytest

from tests.contract.api.harness import Api
from tests.contract.api.test_every_route import UNKNOWN_ID, assert_problem

BATCH = "/api/v1/tasks/run/batch"


def item(number: Any = 1, **more: Any) -> dict[str, Any]:
    return {"task": "sample.add_numbers", "params": {"a": number}, **more}


def submit(api: Api, *items: dict[str, Any], **options: Any) -> dict[str, Any]:
    answer = api.post(BATCH, json={"items": list(items)}, **options)
    assert answer.status_code == 202, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_a_batch_is_accepted_and_its_place_told(api: Api) -> None:
    answer = api.post(BATCH, json={"items": [item(1), item(2, labels={"a": "b"})]})
    assert answer.status_code == 202
    body = answer.json()
    assert set(body) == {"batch_id", "task_ids", "links"}
    assert answer.headers["location"] == f"/api/v1/batches/{body['batch_id']}"
    assert [uuid.UUID(run_id).version for run_id in body["task_ids"]] == [7, 7]
    first, second = (api.get(f"/api/v1/tasks/{run_id}").json() for run_id in body["task_ids"])
    assert (first["params"], second["params"]) == ({"a": 1}, {"a": 2})
    assert first["batch_id"] == second["batch_id"] == body["batch_id"]
    listed = api.get(body["links"]["tasks"]).json()["items"]
    assert {run["task_id"] for run in listed} == set(body["task_ids"])


def test_its_counts_follow_its_runs(api: Api) -> None:
    body = submit(api, item(1), item(2), {"task": "sample.fail_always"})
    for run_id in body["task_ids"][1:]:
        api.work(run_id)
    batch = api.get(body["links"]["self"]).json()
    assert batch["counts"] == {
        "SCHEDULED": 0,
        "PENDING": 1,
        "RUNNING": 0,
        "RETRYING": 0,
        "SUCCEEDED": 1,
        "FAILED": 1,
        "CANCELLED": 0,
        "EXPIRED": 0,
    }
    assert (batch["total"], batch["finished"], batch["deduplicated"]) == (3, 2, 0)
    cancelled = api.post(batch["links"]["cancel"])
    assert cancelled.status_code == 202
    assert cancelled.json()["counts"]["CANCELLED"] == 1
    assert cancelled.json()["finished"] == 3


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({}, {("items",)}),
        ({"items": []}, {("items",)}),
        ({"items": {}}, {("items",)}),
        ({"items": [None]}, {("items", 0)}),
        ({"items": [item()], "more": 1}, {("more",)}),
        ({"items": [item(), item(other=1)]}, {("items", 1, "other")}),
        ({"items": [item(), item("x")]}, {("items", 1, "params", "a")}),
        ({"items": [item(), {"task": "sample.add"}]}, {("items", 1, "task")}),
        (
            {"items": [item(options={"priority": 11}), item(), {"task": 5}]},
            {("items", 0, "options", "priority"), ("items", 2, "task")},
        ),
        (
            {"items": [item(), item(options={"queue": "nowhere"}), item(None)]},
            {("items", 1, "options", "queue"), ("items", 2, "params", "a")},
        ),
    ],
)
def test_what_is_wrong_is_placed_and_nothing_accepted(
    api: Api, body: dict[str, Any], places: set[tuple[str | int, ...]]
) -> None:
    before = api.get("/api/v1/tasks?limit=1").json()["items"]
    answer = api.post(BATCH, json=body)
    assert_problem(answer, 422)
    assert {tuple(fault["loc"]) for fault in answer.json()["errors"]} == {
        ("body", *place) for place in places
    }
    assert api.get("/api/v1/tasks?limit=1").json()["items"] == before


def test_ten_thousand_items_are_taken_and_one_more_is_not(api: Api) -> None:
    small = {"task": "sample.add_numbers", "params": {"a": 1}}
    assert len(submit(api, *[small] * 10_000)["task_ids"]) == 10_000
    answer = api.post(BATCH, json={"items": [small] * 10_001})
    assert_problem(answer, 422)
    (fault,) = answer.json()["errors"]
    assert (fault["loc"], fault["type"]) == (["body", "items"], "too_long")


def test_ten_thousand_wrong_items_are_told_in_a_small_answer(api: Api) -> None:
    for wrong in ({"task": "no.task"}, {"task": 5}):
        answer = api.post(BATCH, json={"items": [wrong] * 10_000})
        assert_problem(answer, 422)
        assert len(answer.json()["errors"]) == 100
        assert len(answer.content) < 50_000


def test_sizes_have_limits(api: Api) -> None:
    large = item(1, params={"a": 1, "note": "x" * 300_000})
    answer = api.post(BATCH, json={"items": [item(), large]})
    assert_problem(answer, 413)
    assert answer.json()["code"] == "PARAMS_TOO_LARGE"
    assert answer.json()["errors"][0]["loc"] == ["body", "items", 1, "params"]
    # More than the limit of other bodies, and below the batches' own.
    note = "x" * 200_000
    fits = json.dumps({"items": [item(1, params={"a": 1, "note": note})] * 12}).encode()
    assert len(fits) > api.settings.limits.max_body_bytes
    headers = {"Content-Type": "application/json"}
    assert api.post(BATCH, content=fits, headers=headers).status_code == 202
    too_large = b" " * (api.settings.limits.max_batch_body_bytes + 1)
    assert_problem(api.post(BATCH, content=too_large, headers=headers), 413)


def test_a_key_makes_one_batch(api: Api) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = api.post(BATCH, json={"items": [item(1), item(2)]}, headers=key)
    again = api.post(BATCH, json={"items": [item(1), item(2)]}, headers=key)
    assert again.status_code == 202
    assert again.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    other = api.post(BATCH, json={"items": [item(2), item(1)]}, headers=key)
    assert_problem(other, 422)
    assert other.json()["code"] == "IDEMPOTENCY_KEY_REUSED"


def test_a_task_of_its_own_scope_needs_it(api: Api) -> None:
    answer = api.post(BATCH, json={"items": [item(), {"task": "sample.guarded_task"}]})
    assert_problem(answer, 403)
    assert "sample:secret" in answer.json()["detail"]


def test_a_viewer_looks_and_changes_nothing(api: Api) -> None:
    body = submit(api, item())
    assert api.get(body["links"]["self"], "viewer").status_code == 200
    assert_problem(api.post(BATCH, "viewer", json={"items": [item()]}), 403)
    assert_problem(api.post(body["links"]["cancel"], "viewer"), 403)


def test_another_tenants_batch_is_404(api: Api) -> None:
    own = submit(api, item())["links"]["self"]
    for path in (own, f"/api/v1/batches/{UNKNOWN_ID}", "/api/v1/batches/x"):
        assert_problem(api.get(path, "foreigner"), 404)
        assert_problem(api.post(f"{path}/cancel", "foreigner"), 404)
    assert api.get(own).json()["counts"]["PENDING"] == 1
