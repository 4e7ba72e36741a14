import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
from httpx2 import Response

from app.common.ids import new_id
from app.tasks.services import open_services
from app.tasks.sweeper import Sweeper
from tests.contract.api.harness import Api, Recorder
from tests.contract.api.test_every_route import assert_problem

BASE = "/api/v1/dead-letters"
MANAGED: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", "/{id}/replay", {}),
    ("POST", "/replay", {"filter": {}}),
    ("DELETE", "/{id}", None),
    ("POST", "/discard", {"filter": {}, "reason": "x"}),
]


def dead(api: Api, task: str = "sample.fail_always", **body: Any) -> dict[str, Any]:
    """Let a run fail for good; return its dead letter as the list shows it."""
    run_id = api.run(task, body.pop("params", {}), **body)
    api.work(run_id)
    run = api.get(f"/api/v1/tasks/{run_id}").json()
    assert run["status"] == "FAILED"
    found = [one for one in listed(api) if one["id"] == run["dead_letter_id"]]
    return found[0]


def archive(api: Api, **facts: Any) -> dict[str, Any]:
    """Let the archive keep a message that no run needs; return its letter."""
    before = {one["id"] for one in listed(api)}
    services = open_services(api.settings, transport=Recorder())
    whole = {"queue": "default", "reason": "rejected", "headers": {}, "death": [], **facts}

    async def keep() -> None:
        await Sweeper(services).archive_dead_letter(whole)
        await services.close()

    asyncio.run(keep())
    (letter,) = [one for one in listed(api) if one["id"] not in before]
    return letter


def listed(api: Api, query: str = "limit=200", role: str = "operator") -> list[dict[str, Any]]:
    answer = api.get(f"{BASE}?{query}", role)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def replay(api: Api, letter: Mapping[str, Any], **options: Any) -> Response:
    return api.post(f"{BASE}/{letter['id']}/replay", **options)


def run_of(api: Api, answer: Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    run: dict[str, Any] = api.get(f"/api/v1/tasks/{answer.json()['task_id']}").json()
    return run


class TestLooking:
    def test_a_letter_tells_what_failed(self, api: Api) -> None:
        letter = dead(api, params={"password": "canary"})
        assert letter["state"] == "open"
        assert (letter["task"], letter["queue"], letter["origin"]) == (
            "sample.fail_always",
            "default",
            "run",
        )
        assert (letter["error_type"], letter["error_message"]) == ("Fatal", "it cannot work")
        assert letter["attempts"] == 1
        assert letter["links"]["run"] == f"/api/v1/tasks/{letter['run_id']}"
        whole = api.get(letter["links"]["self"]).json()
        assert {name: whole[name] for name in letter} == letter
        assert whole["run"]["task_id"] == letter["run_id"]
        assert (whole["message"], whole["headers"], whole["death_history"]) == (None, {}, [])
        assert whole["replays"] == []

    def test_a_message_is_shown_with_headers_and_history(self, api: Api) -> None:
        death = [{"queue": "default", "reason": "rejected", "count": 1}]
        headers = {"task": "no.such", "authorization": "Bearer canary-canary"}
        body = {"body": "[[], {}, {}]", "body_encoding": "utf-8", "body_bytes": 12}
        kinds = {"content_type": "application/json", "content_encoding": "utf-8"}
        letter = archive(api, task="no.such", headers=headers, death=death, **body, **kinds)
        whole = api.get(letter["links"]["self"]).json()
        assert whole["message"] == {**body, **kinds, "fingerprint": None, "reason": "rejected"}
        assert whole["death_history"] == death
        assert whole["headers"]["task"] == "no.such"
        assert "canary" not in str(whole)
        assert (whole["run"], whole["run_id"], whole["origin"]) == (None, None, "broker")

    def test_filters_and_cursor(self, api: Api) -> None:
        ids = [dead(api)["id"] for _ in range(3)][::-1]
        first = api.get(f"{BASE}?task=sample.fail_always&limit=2").json()
        assert [one["id"] for one in first["items"]] == ids[:2]
        cursor = first["next_cursor"]
        second = api.get(f"{BASE}?task=sample.fail_always&limit=2&cursor={cursor}").json()
        assert second["items"][0]["id"] == ids[2]
        assert_problem(api.get(f"{BASE}?limit=2&cursor={cursor}"), 400)
        assert_problem(api.get(f"{BASE}/groups?limit=2&cursor={cursor}"), 400)
        assert listed(api, "task=no.such.task") == []
        assert listed(api, "error_type=Fatal&queue=default&origin=run&limit=1")[0]["id"] == ids[0]
        assert listed(api, "since=2100-01-01T00:00:00Z") == []

    @pytest.mark.parametrize(
        "query",
        ["state=gone", "since=yesterday", "limit=0", "limit=201", "task=a&task=b", "nope=1"],
    )
    def test_a_wrong_filter_is_422(self, api: Api, query: str) -> None:
        for place in (BASE, f"{BASE}/groups"):
            assert_problem(api.get(f"{place}?{query}"), 422)

    def test_groups(self, api: Api) -> None:
        last = [dead(api) for _ in range(2)][-1]
        page = api.get(f"{BASE}/groups?task=sample.fail_always").json()
        (group,) = page["items"]
        assert group["last_dead_letter_id"] == last["id"]
        assert group["last_seen"] == last["created_at"]
        assert group["count"] == len(listed(api, "task=sample.fail_always&limit=200"))
        assert group["replayed"] == len(
            listed(api, "task=sample.fail_always&state=replayed&limit=200")
        )
        assert page["next_cursor"] is None

    @pytest.mark.parametrize("place", ["01890a5d-ac96-774b-bcce-b302099a8057", "nonsense", "{x}"])
    def test_no_letter_is_404(self, api: Api, place: str) -> None:
        for method, path in (("GET", ""), ("POST", "/replay"), ("DELETE", "")):
            assert_problem(api.call(method, f"{BASE}/{place}{path}"), 404)

    def test_another_tenants_letter_is_404(self, api: Api) -> None:
        letter = dead(api)
        assert_problem(api.get(f"{BASE}/{letter['id']}", "foreigner"), 404)
        assert_problem(replay(api, letter, role="foreigner"), 404)
        assert_problem(api.call("DELETE", f"{BASE}/{letter['id']}", "foreigner"), 404)
        assert listed(api, role="foreigner") == []
        answer = api.post(f"{BASE}/replay", "foreigner", json={"filter": {}})
        assert answer.json()["count"] == 0

    @pytest.mark.parametrize(("method", "path", "body"), MANAGED)
    def test_a_viewer_may_only_look(
        self, api: Api, method: str, path: str, body: dict[str, Any] | None
    ) -> None:
        letter = dead(api)
        assert listed(api, role="viewer")
        url = BASE + path.format(id=letter["id"])
        answer = api.call(method, url, "viewer", json=body)
        assert_problem(answer, 403)
        assert "dead_letters:manage" in answer.json()["detail"]


class TestReplay:
    def test_it_is_accepted_and_its_place_told(self, api: Api) -> None:
        letter = dead(api, labels={"team": "data"}, options={"priority": 9})
        answer = replay(api, letter)
        run = run_of(api, answer)
        assert answer.headers["location"] == f"/api/v1/tasks/{run['task_id']}"
        assert (run["replay_of"], run["status"]) == (letter["run_id"], "PENDING")
        assert (run["labels"], run["priority"]) == ({"team": "data"}, 9)
        assert run["task_id"] in [wakeup.run_id for wakeup in api.transport.sent]
        whole = api.get(f"{BASE}/{letter['id']}").json()
        assert (whole["state"], whole["replay_run_id"]) == ("replayed", run["task_id"])
        assert [one["task_id"] for one in whole["replays"]] == [run["task_id"]]
        assert whole["replayed_by"] == run["created_by"]

    def test_edited_params_make_it_succeed(self, api: Api) -> None:
        letter = dead(api, "sample.sum_positive", params={"a": -1, "b": 2})
        answer = replay(api, letter, json={"params": {"a": 1, "b": 2}, "reason": "a typo"})
        run = run_of(api, answer)
        api.work(run["task_id"])
        again = api.get(f"/api/v1/tasks/{run['task_id']}").json()
        assert (again["status"], again["result"]) == ("SUCCEEDED", 3)
        assert again["params"] == {"a": 1, "b": 2}

    def test_wrong_params_are_422_with_an_entry_each(self, api: Api) -> None:
        letter = dead(api, "sample.sum_positive", params={"a": -1, "b": 2})
        answer = replay(api, letter, json={"params": {"a": "one", "c": 1}})
        assert_problem(answer, 422)
        places = {tuple(one["loc"][:3]) for one in answer.json()["errors"]}
        assert places == {("body", "params", name) for name in "abc"}
        assert api.get(f"{BASE}/{letter['id']}").json()["state"] == "open"

    @pytest.mark.parametrize(
        "body", [{"param": {}}, {"params": []}, {"params": {}, "reason": ""}, {"reason": 1}, []]
    )
    def test_a_wrong_body_is_422(self, api: Api, body: Any) -> None:
        assert_problem(replay(api, dead(api), json=body), 422)

    def test_twice_is_409_with_the_run(self, api: Api) -> None:
        letter = dead(api)
        run = run_of(api, replay(api, letter))
        others: list[dict[str, Any]] = [
            {},
            {"json": {"params": {}}},
            {"headers": {"Idempotency-Key": "k"}},
        ]
        for options in others:
            answer = replay(api, letter, **options)
            assert_problem(answer, 409)
            problem = answer.json()
            assert (problem["code"], problem["run_id"]) == (
                "DEAD_LETTER_REPLAYED",
                run["task_id"],
            )
            assert run["task_id"] in problem["detail"]

    def test_at_once_gives_one_run(self, api: Api) -> None:
        letter = dead(api)
        answers: list[Response] = []
        threads = [
            threading.Thread(target=lambda: answers.append(replay(api, letter))) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [202] + [409] * 9
        ids = {answer.json().get("task_id") or answer.json()["run_id"] for answer in answers}
        assert len(ids) == 1
        assert len(api.get(f"{BASE}/{letter['id']}").json()["replays"]) == 1

    def test_the_same_key_gets_the_same_answer(self, api: Api) -> None:
        letter = dead(api)
        headers = {"Idempotency-Key": "replay-1"}
        first, second = (replay(api, letter, headers=headers) for _ in range(2))
        assert first.json() == second.json()
        assert second.headers["idempotency-replayed"] == "true"
        assert "idempotency-replayed" not in first.headers
        other = replay(api, letter, headers=headers, json={"params": {"password": "x"}})
        assert_problem(other, 422)
        assert other.json()["code"] == "IDEMPOTENCY_KEY_REUSED"
        assert_problem(replay(api, dead(api), headers={"Idempotency-Key": "k" * 256}), 400)

    def test_garbage_is_409_that_says_why(self, api: Api) -> None:
        answer = replay(api, archive(api, body="nonsense"))
        assert_problem(answer, 409)
        assert answer.json()["code"] == "DEAD_LETTER_HAS_NO_RUN"
        assert "malformed" in answer.json()["detail"]

    def test_a_task_that_is_gone_is_409_with_the_cure(self, api: Api) -> None:
        name = f"sample.derived_{new_id().replace('-', '_')}"
        body = {"name": name, "base_task": "sample.fail_always"}
        assert api.post("/api/v1/tasks/register", json=body).status_code == 201
        letter = dead(api, name)
        assert api.call("DELETE", f"/api/v1/tasks/registered/{name}").status_code == 204
        answer = replay(api, letter)
        assert_problem(answer, 409)
        assert answer.json()["code"] == "DEAD_LETTER_TASK_NOT_REGISTERED"
        assert "aliases=" in answer.json()["hint"]


class TestReplayByFilter:
    def test_a_dry_run_counts(self, api: Api) -> None:
        letter = dead(api)
        wanted = {"task": "sample.fail_always", "since": letter["created_at"]}
        answer = api.post(f"{BASE}/replay", json={"filter": wanted, "dry_run": True})
        assert answer.status_code == 200
        assert answer.json() == {
            "dry_run": True,
            "count": 1,
            "batch_id": None,
            "skipped": {},
            "links": {},
        }
        assert api.get(f"{BASE}/{letter['id']}").json()["state"] == "open"

    def test_what_matches_is_replayed_at_the_rate(self, api: Api) -> None:
        letters = [dead(api, "sample.sum_positive", params={"a": -1, "b": 1}) for _ in range(3)]
        wanted = {"task": "sample.sum_positive", "since": letters[0]["created_at"]}
        body = {"filter": wanted, "rate_per_second": 0.1, "reason": "mended"}
        answer = api.post(f"{BASE}/replay", json=body)
        assert answer.status_code == 202
        done = answer.json()
        assert (done["count"], done["dry_run"], done["skipped"]) == (3, False, {})
        runs = api.get(done["links"]["runs"]).json()["items"]
        assert {run["replay_of"] for run in runs} == {letter["run_id"] for letter in letters}
        assert {run["batch_id"] for run in runs} == {done["batch_id"]}
        assert [run["status"] for run in runs] == ["SCHEDULED", "SCHEDULED", "PENDING"]
        assert api.post(f"{BASE}/replay", json=body).json()["count"] == 0

    @pytest.mark.parametrize(
        ("body", "place"),
        [
            ({}, ["body", "filter"]),
            ({"filter": {"tasks": "x"}}, ["body", "filter", "tasks"]),
            ({"filter": {"since": "now"}}, ["body", "filter", "since"]),
            ({"filter": {}, "rate_per_second": 0}, ["body", "rate_per_second"]),
            ({"filter": {}, "rate_per_second": "1"}, ["body", "rate_per_second"]),
            ({"filter": {}, "rate_per_second": 1e-12}, ["body", "rate_per_second"]),
            ({"filter": {}, "dry_run": 1}, ["body", "dry_run"]),
        ],
    )
    def test_a_wrong_body_is_422(self, api: Api, body: dict[str, Any], place: list[str]) -> None:
        for _ in range(2):
            dead(api)
        answer = api.post(f"{BASE}/replay", json=body)
        assert_problem(answer, 422)
        assert answer.json()["errors"][0]["loc"] == place


class TestDiscard:
    def test_it_leaves_the_list_and_is_kept(self, api: Api) -> None:
        letter = dead(api)
        place = f"{BASE}/{letter['id']}"
        for reason in ("of%20no%20use", "again"):
            assert api.call("DELETE", f"{place}?reason={reason}").status_code == 204
        assert letter["id"] not in [one["id"] for one in listed(api)]
        gone = listed(api, "state=discarded&limit=1")[0]
        assert (gone["id"], gone["discard_reason"]) == (letter["id"], "of no use")
        me = api.get("/api/v1/auth/me").json()["id"]
        assert (gone["state"], gone["discarded_by"]) == ("discarded", me)
        assert api.get(place).json()["state"] == "discarded"
        answer = replay(api, letter)
        assert_problem(answer, 409)
        assert answer.json()["code"] == "DEAD_LETTER_DISCARDED"

    def test_by_filter(self, api: Api) -> None:
        letters = [dead(api, "sample.sum_positive", params={"a": -1, "b": 1}) for _ in range(2)]
        wanted = {"task": "sample.sum_positive", "since": letters[0]["created_at"]}
        body = {"filter": wanted, "reason": "old"}
        counted = api.post(f"{BASE}/discard", json={**body, "dry_run": True})
        assert counted.json() == {"dry_run": True, "count": 2}
        assert api.post(f"{BASE}/discard", json=body).json() == {"dry_run": False, "count": 2}
        assert api.post(f"{BASE}/discard", json=body).json()["count"] == 0

    def test_a_reason_may_be_left_out(self, api: Api) -> None:
        letter = dead(api)
        body = {"filter": {"since": letter["created_at"]}}
        assert api.post(f"{BASE}/discard", json=body).json()["count"] == 1
        gone = api.get(f"{BASE}/{letter['id']}").json()
        assert (gone["state"], gone["discard_reason"]) == ("discarded", None)

    @pytest.mark.parametrize(
        "body",
        [{}, {"reason": "x"}, {"filter": {}, "reason": ""}, {"filter": None}],
    )
    def test_without_a_filter_it_is_422(self, api: Api, body: dict[str, Any]) -> None:
        letter = dead(api)
        assert_problem(api.post(f"{BASE}/discard", json=body), 422)
        assert api.get(f"{BASE}/{letter['id']}").json()["state"] == "open"


def test_answers_are_as_the_document_says(api: Api) -> None:
    document = api.get("/openapi.json", role=None).json()
    letter = dead(api)
    replay(api, letter)
    for path, template in (
        (BASE, BASE),
        (f"{BASE}/groups", f"{BASE}/groups"),
        (f"{BASE}/{letter['id']}", f"{BASE}/{{dead_letter_id}}"),
    ):
        responses = document["paths"][template]["get"]["responses"]
        schema = responses["200"]["content"]["application/json"]["schema"]
        whole = {**schema, "components": document["components"]}
        jsonschema.validate(api.get(path).json(), whole)
    scopes = document["paths"][f"{BASE}/discard"]["post"]["x-required-scopes"]
    assert scopes == ["dead_letters:manage"]
