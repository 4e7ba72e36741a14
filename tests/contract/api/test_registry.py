import uuid
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.contract.api.harness import Api
from tests.contract.api.test_every_route import assert_problem

TASKS = "/api/v1/tasks/registered"
REGISTER = "/api/v1/tasks/register"
CONTRACT = {
    "name",
    "description",
    "plugin",
    "kind",
    "base_task",
    "version",
    "queue",
    "params_schema",
    "result_schema",
    "retry",
    "timeout_seconds",
    "required_scope",
    "deprecated",
}
MORE = {"aliases", "limits", "unique_for_seconds"}
RETRY = {"max_attempts", "backoff_seconds", "backoff_max_seconds", "jitter"}


@pytest.fixture
def name(api: Api) -> Iterator[str]:
    """A name for a derived task, which is forgotten afterwards."""
    name = f"sample.derived_{uuid.uuid4().hex}"
    yield name
    api.call("DELETE", f"{TASKS}/{name}")


def _derive(api: Api, derived: str, **changes: Any) -> Any:
    body = {"name": derived, "base_task": "sample.add_numbers", "params": {"b": 10}, **changes}
    return api.post(REGISTER, json=body)


def test_a_code_task_is_listed_with_its_schema(api: Api) -> None:
    listed = api.get(TASKS).json()
    assert set(listed) == {"items", "next_cursor"}
    (task,) = [task for task in listed["items"] if task["name"] == "sample.add_numbers"]
    assert set(task) == CONTRACT | MORE
    assert (task["plugin"], task["kind"], task["base_task"]) == ("sample", "code", None)
    assert task["description"] == "Add two numbers."
    assert set(task["retry"]) == RETRY
    assert task["retry"]["max_attempts"] == 3
    jsonschema.Draft202012Validator.check_schema(task["params_schema"])
    jsonschema.validate({"a": 1}, task["params_schema"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"b": 1}, task["params_schema"])
    assert api.get(f"{TASKS}/sample.add_numbers").json() == task


def test_an_unknown_task_is_404_with_near_names(api: Api) -> None:
    answer = api.get(f"{TASKS}/sample.add_number")
    assert_problem(answer, 404)
    assert answer.json()["code"] == "TASK_NOT_REGISTERED"
    assert "sample.add_numbers" in answer.json()["hint"]


def test_a_task_that_the_caller_may_not_run_is_hidden(api: Api) -> None:
    name = "sample.guarded_task"
    assert name not in [task["name"] for task in api.get(TASKS).json()["items"]]
    assert_problem(api.get(f"{TASKS}/{name}"), 404)
    assert api.get(f"{TASKS}/{name}", "admin").json()["required_scope"] == "sample:secret"


def test_a_derived_task_is_usable_at_once(api: Api, name: str) -> None:
    answer = _derive(api, name, options={"priority": 8, "max_attempts": 7})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{TASKS}/{name}"
    task = answer.json()
    assert (task["kind"], task["base_task"]) == ("derived", "sample.add_numbers")
    assert "b" not in task["params_schema"]["properties"]
    assert api.get(f"{TASKS}/{name}").json() == task
    run_id = api.run(name, {"a": 1})
    api.work(run_id)
    run = api.get(f"/api/v1/tasks/{run_id}").json()
    assert (run["task"], run["result"]) == (name, {"sum": 11})
    assert (run["priority"], run["max_attempts"]) == (8, 7)


def test_a_name_is_taken_once(api: Api, name: str) -> None:
    assert _derive(api, name).status_code == 201
    for taken in (name, "sample.add_numbers"):
        answer = _derive(api, taken)
        assert_problem(answer, 409)
        assert answer.json()["code"] == "TASK_ALREADY_REGISTERED"


@pytest.mark.parametrize(
    ("changes", "status", "place"),
    [
        ({"base_task": "sample.nothing"}, 404, None),
        ({"params": {"b": "x"}}, 422, ["body", "params", "b"]),
        ({"params": {"zzz": 1}}, 422, ["body", "params", "zzz"]),
        ({"options": {"priority": 11}}, 422, ["body", "options", "priority"]),
        ({"options": {"queue": "nowhere"}}, 422, ["body", "options", "queue"]),
        ({"options": {"code": "print()"}}, 422, ["body", "options", "code"]),
        ({"name": "Not A Name"}, 422, ["body", "name"]),
        ({"code": "print()"}, 422, ["body", "code"]),
    ],
)
def test_presets_must_fit_the_base(
    api: Api, name: str, changes: dict[str, Any], status: int, place: list[str] | None
) -> None:
    answer = _derive(api, name, **changes)
    assert_problem(answer, status)
    if place is not None:
        assert [error["loc"] for error in answer.json()["errors"]] == [place]
    assert api.get(f"{TASKS}/{name}").status_code == 404


def test_only_a_derived_task_can_be_deleted(api: Api, name: str) -> None:
    _derive(api, name)
    answer = api.call("DELETE", f"{TASKS}/{name}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert_problem(api.call("DELETE", f"{TASKS}/{name}"), 404)
    assert_problem(api.call("DELETE", f"{TASKS}/sample.add_numbers"), 409)
    assert api.get(f"{TASKS}/sample.add_numbers").status_code == 200


def test_reading_is_not_registering(api: Api, name: str) -> None:
    body = {"name": name, "base_task": "sample.add_numbers"}
    assert_problem(api.post(REGISTER, "viewer", json=body), 403)
    assert_problem(api.call("DELETE", f"{TASKS}/{name}", "viewer"), 403)
