"""Schedules over HTTP: the shapes, the scopes, what is refused and how."""

import asyncio
from datetime import datetime
from typing import Any

import pytest

from app.tasks.firing import Firing
from app.tasks.services import open_services
from tests.contract.api.harness import Api, Recorder
from tests.contract.api.test_every_route import UNKNOWN_ID, assert_problem

PATH = "/api/v1/schedules"
MEMBERS = {
    *("id", "name", "kind", "task", "params", "cron", "interval_seconds", "timezone"),
    *("misfire", "overlap", "is_active", "next_fire_at", "last_fire_at", "last_run_id"),
    *("error", "created_by", "created_at", "updated_at", "links"),
}


def body(**fields: Any) -> dict[str, Any]:
    wish = {"name": "a schedule", "task": "sample.add_numbers", "params": {"a": 1}, **fields}
    return wish if "cron" in wish else {"interval_seconds": 3600, **wish}


def make(api: Api, role: str = "operator", **fields: Any) -> dict[str, Any]:
    answer = api.post(PATH, role, json=body(**fields))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def fire(api: Api) -> None:
    """Do what a beat does, in a process of its own as it were, long after it was due."""
    services = open_services(api.settings, transport=Recorder())
    with services.databases.sync_begin("postgres_main") as connection:
        connection.exec_driver_sql(
            "UPDATE schedules SET next_fire_at = '2026-01-01 00:00:00.000000'"
            " WHERE next_fire_at IS NOT NULL"
        )
    with asyncio.Runner() as runner:
        runner.run(Firing(services).fire_due())
        runner.run(services.close())


@pytest.fixture(autouse=True)
def _no_schedules(api: Api) -> None:
    for role in ("admin", "foreigner"):
        for one in api.get(PATH, role, params={"limit": 200}).json()["items"]:
            assert api.call("DELETE", f"{PATH}/{one['id']}", role).status_code == 204


def test_a_schedule_is_made_and_read(api: Api) -> None:
    wish = body(
        cron="30 2 * * *", timezone="Europe/Berlin", misfire="skip", overlap="cancel_previous"
    )
    answer = api.post(PATH, json=wish)
    assert answer.status_code == 201
    made = answer.json()
    assert made.keys() == MEMBERS
    assert {name: made[name] for name in wish} == wish
    assert (made["kind"], made["is_active"], made["interval_seconds"]) == ("api", True, None)
    assert made["last_run_id"] is made["last_fire_at"] is made["error"] is None
    assert made["next_fire_at"].endswith("Z")
    own = f"{PATH}/{made['id']}"
    assert answer.headers["location"] == own
    assert made["links"] == {
        "self": own,
        "run": f"{own}/run",
        "preview": f"{own}/preview",
        "firings": f"{own}/firings",
        "runs": f"/api/v1/tasks?schedule_id={made['id']}",
    }
    assert api.get(own, "viewer").json() == made


def test_what_is_left_out_has_a_default(api: Api) -> None:
    answer = api.post(PATH, json={"name": "x", "task": "sample.fail_always", "cron": "0 0 * * *"})
    made = answer.json()
    assert (made["params"], made["timezone"]) == ({}, "UTC")
    assert (made["misfire"], made["overlap"], made["is_active"]) == ("run_once", "allow", True)


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"cron": "* * * *"}, ["body", "cron"]),
        ({"cron": "* * * * * *"}, ["body", "cron"]),
        ({"cron": "61 * * * *"}, ["body", "cron"]),
        ({"cron": "*/0 * * * *"}, ["body", "cron"]),
        ({"cron": "0 0 30 2 *"}, ["body", "cron"]),
        ({"cron": "1," * 5000 + "1 * * * *"}, ["body", "cron"]),
        ({"cron": "0 0 * * *", "timezone": "Mars/Olympus"}, ["body", "timezone"]),
        ({"cron": "0 0 * * *", "interval_seconds": 5}, ["body", "cron"]),
        ({"cron": None}, ["body", "cron"]),
        ({"interval_seconds": 0.5}, ["body", "interval_seconds"]),
        ({"interval_seconds": "5"}, ["body", "interval_seconds"]),
        ({"interval_seconds": 1e300}, ["body", "interval_seconds"]),
        ({"misfire": "sometimes"}, ["body", "misfire"]),
        ({"overlap": 1}, ["body", "overlap"]),
        ({"params": {"a": "one"}}, ["body", "params", "a"]),
        ({"params": {}}, ["body", "params", "a"]),
        ({"name": ""}, ["body", "name"]),
        ({"name": "code:mine"}, ["body", "name"]),
        ({"is_active": "yes"}, ["body", "is_active"]),
        ({"every": 5}, ["body", "every"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_field_is_422_and_named(api: Api, fields: dict[str, Any], loc: list[str]) -> None:
    answer = api.post(PATH, json=body(**fields))
    assert_problem(answer, 422)
    assert [fault["loc"] for fault in answer.json()["errors"]] == [loc]
    if "timezone" not in fields and "is_active" not in fields and "every" not in fields:
        existing = make(api)
        changes = {key: value for key, value in fields.items() if (key, value) != ("cron", None)}
        if changes:
            answer = api.call("PATCH", f"{PATH}/{existing['id']}", json=changes)
            assert_problem(answer, 422)
            assert [fault["loc"] for fault in answer.json()["errors"]] == [loc]


def test_an_unknown_task_is_404_with_near_names(api: Api) -> None:
    answer = api.post(PATH, json=body(task="sample.add_number"))
    assert_problem(answer, 404)
    assert answer.json()["code"] == "TASK_NOT_REGISTERED"
    assert "sample.add_numbers" in answer.json()["hint"]


def test_a_second_one_of_the_name_is_409(api: Api) -> None:
    make(api)
    answer = api.post(PATH, json=body())
    assert_problem(answer, 409)
    assert answer.json()["code"] == "SCHEDULE_ALREADY_EXISTS"
    assert api.post(PATH, "foreigner", json=body()).status_code == 201


def test_a_viewer_looks_and_changes_nothing(api: Api) -> None:
    own = f"{PATH}/{make(api)['id']}"
    for path in (PATH, own, f"{own}/preview", f"{own}/firings"):
        assert api.get(path, "viewer").status_code == 200
    for method, path in (("POST", PATH), ("PATCH", own), ("DELETE", own), ("POST", f"{own}/run")):
        answer = api.call(method, path, "viewer", json={})
        assert_problem(answer, 403)
        assert "schedules:manage" in answer.json()["detail"]


def test_the_task_s_own_scope_is_asked_for(api: Api) -> None:
    wish = body(task="sample.guarded_task", params={})
    assert_problem(api.post(PATH, json=wish), 403)
    assert api.post(PATH, "admin", json=wish).status_code == 201


def test_another_tenant_s_is_404(api: Api) -> None:
    own = f"{PATH}/{make(api)['id']}"
    for method, path in (
        ("GET", own),
        ("PATCH", own),
        ("DELETE", own),
        ("POST", f"{own}/run"),
        ("GET", f"{own}/preview"),
        ("GET", f"{own}/firings"),
    ):
        sent: dict[str, Any] = {"json": {"is_active": False}} if method == "PATCH" else {}
        answer = api.call(method, path, "foreigner", **sent)
        assert_problem(answer, 404)
        assert answer.json()["code"] == "SCHEDULE_NOT_FOUND"
    assert api.get(PATH, "foreigner").json()["items"] == []
    assert api.get(own).json()["is_active"] is True


def test_the_list_is_paged_filtered_and_masked(api: Api) -> None:
    names = [
        make(api, name=f"schedule {number}", is_active=number > 0)["name"] for number in range(5)
    ]
    make(api, name="secret", task="sample.fail_always", params={"password": "hunter2"})
    first = api.get(PATH, params={"limit": 4}).json()
    assert first["items"][0]["params"] != {"password": "hunter2"}
    rest = api.get(PATH, params={"limit": 4, "cursor": first["next_cursor"]}).json()
    found = [one["name"] for one in (*first["items"], *rest["items"])]
    assert found == ["secret", *reversed(names)]
    assert rest["next_cursor"] is None
    paused = api.get(PATH, params={"is_active": "false"}).json()["items"]
    assert [one["name"] for one in paused] == ["schedule 0"]
    for query in ({"cursor": "x"}, {"cursor": first["next_cursor"], "kind": "api"}):
        assert_problem(api.get(PATH, params=query), 400)


def test_a_pause_and_its_end(api: Api) -> None:
    own = f"{PATH}/{make(api)['id']}"
    paused = api.call("PATCH", own, json={"is_active": False}).json()
    assert (paused["is_active"], paused["next_fire_at"]) == (False, None)
    resumed = api.call("PATCH", own, json={"is_active": True}).json()
    assert resumed["next_fire_at"] is not None


@pytest.mark.parametrize("field", ["name", "task", "params", "timezone", "misfire", "is_active"])
def test_null_is_no_change(api: Api, field: str) -> None:
    own = f"{PATH}/{make(api)['id']}"
    assert_problem(api.call("PATCH", own, json={field: None}), 422)


def test_one_timing_takes_the_other_s_place(api: Api) -> None:
    own = f"{PATH}/{make(api)['id']}"
    daily = api.call("PATCH", own, json={"cron": "30 2 * * *", "interval_seconds": None}).json()
    assert (daily["cron"], daily["interval_seconds"]) == ("30 2 * * *", None)
    often = api.call("PATCH", own, json={"interval_seconds": 60}).json()
    assert (often["cron"], often["interval_seconds"]) == (None, 60)


def test_a_change_of_what_somebody_changed_is_412(api: Api) -> None:
    made = make(api)
    own = f"{PATH}/{made['id']}"
    seen = {"updated_at": made["updated_at"]}
    assert api.call("PATCH", own, json={"name": "first", **seen}).status_code == 200
    answer = api.call("PATCH", own, json={"name": "second", **seen})
    assert_problem(answer, 412)
    assert answer.json()["code"] == "SCHEDULE_HAS_CHANGED"
    assert api.get(own).json()["name"] == "first"


def test_the_preview_shows_the_clock_of_the_zone(api: Api) -> None:
    made = make(api, cron="30 2 * * *", timezone="Asia/Kolkata")
    answer = api.get(f"{PATH}/{made['id']}/preview").json()
    assert answer["timezone"] == "Asia/Kolkata"
    assert len(answer["items"]) == 20
    assert answer["items"][0]["fire_time"] == made["next_fire_at"]
    for one in answer["items"]:
        assert one["local_time"].endswith("T02:30:00+05:30")
        moment = datetime.fromisoformat(one["fire_time"])
        assert moment == datetime.fromisoformat(one["local_time"])
    assert len(api.get(f"{PATH}/{made['id']}/preview", params={"count": 3}).json()["items"]) == 3
    for count in (0, 201, "x"):
        assert_problem(api.get(f"{PATH}/{made['id']}/preview", params={"count": count}), 422)


def test_run_now_answers_like_a_run(api: Api) -> None:
    made = make(api, params={"a": 2, "b": 3}, is_active=False)
    answer = api.post(f"{PATH}/{made['id']}/run")
    assert answer.status_code == 202
    run_id = answer.json()["task_id"]
    assert answer.headers["location"] == f"/api/v1/tasks/{run_id}"
    api.work(run_id)
    run = api.get(f"/api/v1/tasks/{run_id}").json()
    assert (run["status"], run["result"], run["schedule_id"]) == (
        "SUCCEEDED",
        {"sum": 5},
        made["id"],
    )
    assert run["created_by"] == f"schedule:{made['id']}"
    now = api.get(f"{PATH}/{made['id']}").json()
    assert now["last_run_id"] == run_id
    assert now["links"]["last_run"] == f"/api/v1/tasks/{run_id}"
    (told,) = api.get(f"{PATH}/{made['id']}/firings").json()["items"]
    assert (told["trigger"], told["outcome"], told["run_id"]) == ("manual", "fired", run_id)
    assert told["links"] == {"run": f"/api/v1/tasks/{run_id}"}


def test_what_beat_fires_is_in_the_history(api: Api) -> None:
    made = make(api, cron="30 2 1 1 *", misfire="skip")
    other = make(api, name="another", cron="30 2 1 1 *", misfire="run_once")
    fire(api)
    (told,) = api.get(f"{PATH}/{made['id']}/firings").json()["items"]
    assert (told["outcome"], told["run_id"], told["links"]) == ("missed", None, {})
    assert told["fire_time"].endswith("-01-01T02:30:00.000000Z")
    assert told["missed_since"] == "2026-01-01T00:00:00.000000Z"
    runs = api.get(made["links"]["runs"]).json()["items"]
    assert runs == []
    runs = api.get(other["links"]["runs"]).json()["items"]
    assert {run["schedule_id"] for run in runs} == {other["id"]}
    assert api.get("/api/v1/tasks", params={"schedule_id": "x"}).status_code == 422


def test_the_history_is_paged(api: Api) -> None:
    made = make(api)
    for _ in range(3):
        api.post(f"{PATH}/{made['id']}/run")
    path = f"{PATH}/{made['id']}/firings"
    first = api.get(path, params={"limit": 2}).json()
    rest = api.get(path, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    runs = [one["run_id"] for one in (*first["items"], *rest["items"])]
    assert len(set(runs)) == 3
    assert runs[0] == api.get(f"{PATH}/{made['id']}").json()["last_run_id"]
    for cursor in ("x", "1.x", first["next_cursor"] + "x"):
        assert_problem(api.get(path, params={"cursor": cursor}), 400)


def test_an_unknown_one_is_404(api: Api) -> None:
    for path in (f"{PATH}/{UNKNOWN_ID}", f"{PATH}/x", f"{PATH}/x/preview"):
        answer = api.get(path)
        assert_problem(answer, 404)
        assert answer.json()["code"] == "SCHEDULE_NOT_FOUND"
    assert_problem(api.call("DELETE", f"{PATH}/{UNKNOWN_ID}"), 404)
