import uuid
from typing import Any

from httpx2 import Response

from tests.contract.api.harness import Api
from tests.contract.api.test_every_route import UNKNOWN_ID, assert_problem


def rerun(api: Api, run_id: str, body: Any = None, role: str = "operator", **more: Any) -> Response:
    options = {} if body is None else {"json": body}
    return api.post(f"/api/v1/tasks/{run_id}/rerun", role, **options, **more)


def run_of(api: Api, answer: Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    run: dict[str, Any] = api.get(answer.headers["location"]).json()
    return run


def test_a_run_runs_again(api: Api) -> None:
    options = {"priority": 8, "max_attempts": 2, "timeout_seconds": 400, "expires_at": _far()}
    first = api.run("sample.add_numbers", {"a": 1}, options=options, labels={"team": "data"})
    api.work(first)
    answer = rerun(api, first)
    assert set(answer.json()) == {"task_id", "task", "status", "created_at", "links"}
    run = run_of(api, answer)
    assert run["task_id"] != first
    assert (run["replay_of"], run["status"], run["params"]) == (first, "PENDING", {"a": 1})
    assert (run["priority"], run["max_attempts"], run["labels"]) == (8, 2, {"team": "data"})
    assert api.get(f"/api/v1/tasks/{first}").json()["status"] == "SUCCEEDED"
    api.work(run["task_id"])
    assert api.get(f"/api/v1/tasks/{run['task_id']}/result").json() == {"sum": 1}


def _far() -> str:
    return "2100-01-01T00:00:00Z"


def test_parameters_can_be_edited(api: Api) -> None:
    first = api.run("sample.sum_positive", {"a": -1, "b": 2})
    api.work(first)
    assert run_of(api, rerun(api, first, {"params": {"a": 1, "b": 2}}))["params"] == {
        "a": 1,
        "b": 2,
    }
    # They take the place of all that there were, and the schema checks them.
    answer = rerun(api, first, {"params": {"a": "x"}})
    assert_problem(answer, 422)
    assert {tuple(fault["loc"]) for fault in answer.json()["errors"]} == {
        ("body", "params", "a"),
        ("body", "params", "b"),
    }


def test_a_run_that_has_not_ended_runs_again_as_well(api: Api) -> None:
    first = api.run("sample.add_numbers", {"a": 1}, options={"delay_seconds": 60})
    run = run_of(api, rerun(api, first))
    assert (run["status"], run["scheduled_for"]) == ("PENDING", None)
    assert api.get(f"/api/v1/tasks/{first}").json()["status"] == "SCHEDULED"


def test_a_key_makes_one_rerun(api: Api) -> None:
    first = api.run("sample.add_numbers", {"a": 1})
    key = {"Idempotency-Key": uuid.uuid4().hex}
    made = rerun(api, first, headers=key)
    again = rerun(api, first, {}, headers=key)
    assert again.json() == made.json()
    assert again.headers["idempotency-replayed"] == "true"
    # The same parameters, written out, are the same request.
    assert rerun(api, first, {"params": {"a": 1}}, headers=key).json() == made.json()
    for other in (rerun(api, first, {"params": {"a": 2}}, headers=key),
                  rerun(api, api.run("sample.add_numbers", {"a": 1}), headers=key)):  # fmt: skip
        assert_problem(other, 422)
        assert other.json()["code"] == "IDEMPOTENCY_KEY_REUSED"


def test_a_run_whose_task_is_gone_is_409_with_the_cure(api: Api) -> None:
    name = f"sample.gone_{uuid.uuid4().hex[:8]}"
    body = {"name": name, "base_task": "sample.add_numbers"}
    assert api.post("/api/v1/tasks/register", "admin", json=body).status_code == 201
    first = api.run(name, {"a": 1})
    key = {"Idempotency-Key": uuid.uuid4().hex}
    made = rerun(api, first, headers=key)
    assert api.call("DELETE", f"/api/v1/tasks/registered/{name}", "admin").status_code == 204
    answer = rerun(api, first)
    assert_problem(answer, 409)
    assert answer.json()["code"] == "RUN_TASK_NOT_REGISTERED"
    assert "aliases" in answer.json()["hint"]
    # What was accepted once stays accepted.
    assert rerun(api, first, headers=key).json() == made.json()


def test_who_may_run_again(api: Api) -> None:
    first = api.run("sample.add_numbers", {"a": 1})
    assert_problem(rerun(api, first, role="viewer"), 403)
    for run_id in (first, UNKNOWN_ID, "x"):
        assert_problem(rerun(api, run_id, role="foreigner"), 404)
    guarded = api.post("/api/v1/tasks/run", "admin", json={"task": "sample.guarded_task"})
    assert_problem(rerun(api, guarded.json()["task_id"]), 403)


def test_unknown_fields_are_refused(api: Api) -> None:
    first = api.run("sample.add_numbers", {"a": 1})
    wrong: list[Any] = [{"task": "x"}, {"params": []}, []]
    for body in wrong:
        assert_problem(rerun(api, first, body), 422)


def test_waiting_for_the_end_is_honoured(api: Api) -> None:
    first = api.run("sample.add_numbers", {"a": 1})
    answer = rerun(api, first, headers={"Prefer": "wait=0"})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers
    key = {"Idempotency-Key": uuid.uuid4().hex}
    made = rerun(api, first, headers=key).json()["task_id"]
    api.work(made)
    whole = rerun(api, first, headers={**key, "Prefer": "wait=5"})
    assert whole.status_code == 200
    assert whole.headers["preference-applied"] == "wait=5"
    assert whole.headers["idempotency-replayed"] == "true"
    assert (whole.json()["status"], whole.json()["replay_of"]) == ("SUCCEEDED", first)
