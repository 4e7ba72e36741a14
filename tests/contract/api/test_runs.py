import re
import uuid
from typing import Any

import pytest

from tests.contract.api.harness import Api

RUN = "/api/v1/tasks/run"
FIELDS = {
    "task_id",
    "task",
    "task_version",
    "status",
    "params",
    "result",
    "result_stored",
    "error",
    "attempt",
    "max_attempts",
    "priority",
    "queue",
    "progress",
    "labels",
    "created_by",
    "parent_id",
    "batch_id",
    "replay_of",
    "schedule_id",
    "trace_id",
    "created_at",
    "scheduled_for",
    "started_at",
    "finished_at",
    "updated_at",
    "dead_letter_id",
    "links",
}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def _body(**changes: Any) -> dict[str, Any]:
    return {"task": "sample.add_numbers", "params": {"a": 1}, **changes}


class TestRunTask:
    def test_a_run_is_accepted_and_its_place_told(self, api: Api) -> None:
        answer = api.post(RUN, json=_body())
        assert answer.status_code == 202
        body = answer.json()
        assert set(body) == {"task_id", "task", "status", "created_at", "links"}
        assert uuid.UUID(body["task_id"]).version == 7
        assert (body["task"], body["status"]) == ("sample.add_numbers", "PENDING")
        assert MOMENT.fullmatch(body["created_at"])
        assert answer.headers["location"] == f"/api/v1/tasks/{body['task_id']}"
        assert api.get(answer.headers["location"]).status_code == 200

    def test_links_are_not_made_from_the_host_header(self, api: Api) -> None:
        answer = api.post(RUN, json=_body(), headers={"Host": "evil.example"})
        assert "evil" not in answer.text + str(answer.headers)

    def test_the_trace_of_the_request_is_the_runs(self, api: Api) -> None:
        trace_id = uuid.uuid4().hex
        headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
        run_id = api.post(RUN, json=_body(), headers=headers).json()["task_id"]
        assert api.get(f"/api/v1/tasks/{run_id}").json()["trace_id"] == trace_id
        found = api.get(f"/api/v1/tasks?trace_id={trace_id}").json()["items"]
        assert [run["task_id"] for run in found] == [run_id]

    def test_options_and_labels_are_kept(self, api: Api) -> None:
        options = {"delay_seconds": 60, "priority": 8, "max_attempts": 7}
        run_id = api.run("sample.add_numbers", {"a": 1}, options=options, labels={"team": "a.b"})
        run = api.get(f"/api/v1/tasks/{run_id}").json()
        assert (run["status"], run["priority"], run["max_attempts"]) == ("SCHEDULED", 8, 7)
        assert run["labels"] == {"team": "a.b"}
        assert MOMENT.fullmatch(run["scheduled_for"])

    def test_a_moment_in_the_past_runs_now(self, api: Api) -> None:
        answer = api.post(RUN, json=_body(options={"run_at": "2020-01-01T00:00:00Z"}))
        assert answer.json()["status"] == "PENDING"

    def test_texts_are_stored_as_they_came(self, api: Api) -> None:
        nasty = "'; DROP TABLE x; -- {{7*7}} %s <script> \u202e __proto__ ${jndi:x}"
        run_id = api.run("sample.add_numbers", {"a": 1, "note": nasty})
        assert api.get(f"/api/v1/tasks/{run_id}").json()["params"]["note"] == nasty

    def test_an_unknown_task_is_404_with_near_names(self, api: Api) -> None:
        answer = api.post(RUN, json=_body(task="sample.add_number"))
        assert (answer.status_code, answer.json()["code"]) == (404, "TASK_NOT_REGISTERED")
        assert "sample.add_numbers" in answer.json()["hint"]

    def test_each_wrong_parameter_has_an_entry(self, api: Api) -> None:
        answer = api.post(RUN, json=_body(params={"a": "1", "b": True, "c": 1}))
        assert answer.status_code == 422
        places = {tuple(error["loc"]) for error in answer.json()["errors"]}
        assert places == {("body", "params", "a"), ("body", "params", "b"), ("body", "params", "c")}

    def test_a_task_may_ask_for_its_own_scope(self, api: Api) -> None:
        answer = api.post(RUN, json=_body(task="sample.guarded_task", params={}))
        assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
        assert "sample:secret" in answer.json()["detail"]
        admin = api.post(RUN, "admin", json=_body(task="sample.guarded_task", params={}))
        assert admin.status_code == 202

    def test_too_large_parameters_are_413(self, api: Api) -> None:
        answer = api.post(RUN, json=_body(params={"a": 1, "note": "x" * 300_000}))
        assert (answer.status_code, answer.json()["code"]) == (413, "PARAMS_TOO_LARGE")

    def test_waiting_returns_the_whole_run_when_it_has_ended(self, api: Api) -> None:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        run_id = api.post(RUN, json=_body(), headers=headers).json()["task_id"]
        api.work(run_id)
        answer = api.post(RUN, json=_body(), headers={**headers, "Prefer": "wait=5"})
        assert answer.status_code == 200
        assert set(answer.json()) == FIELDS
        assert answer.json()["result"] == {"sum": 1}
        assert answer.headers["preference-applied"] == "wait=5"

    def test_waiting_in_vain_is_202(self, api: Api) -> None:
        answer = api.post(RUN, json=_body(), headers={"Prefer": "wait=1"})
        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "wait=1"


class TestIdempotency:
    def test_the_same_request_is_the_same_run(self, api: Api) -> None:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        first = api.post(RUN, json=_body(params={"a": 1, "b": 2}), headers=headers)
        second = api.post(
            RUN, json={"params": {"b": 2, "a": 1}, "task": "sample.add_numbers"}, headers=headers
        )
        assert second.json() == first.json()
        assert "idempotency-replayed" not in first.headers
        assert second.headers["idempotency-replayed"] == "true"

    def test_another_body_is_422(self, api: Api) -> None:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        api.post(RUN, json=_body(), headers=headers)
        answer = api.post(RUN, json=_body(params={"a": 2}), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")

    def test_a_refused_request_leaves_the_key_free(self, api: Api) -> None:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        assert api.post(RUN, json=_body(params={}), headers=headers).status_code == 422
        assert api.post(RUN, json=_body(), headers=headers).status_code == 202

    def test_a_key_belongs_to_its_caller(self, api: Api) -> None:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        mine = api.post(RUN, json=_body(), headers=headers).json()["task_id"]
        theirs = api.post(RUN, "foreigner", json=_body(), headers=headers)
        assert theirs.status_code == 202
        assert theirs.json()["task_id"] != mine

    @pytest.mark.parametrize("key", ["", "a" * 256, "caf\u00e9", "a\tb"])
    def test_a_bad_key_is_400(self, api: Api, key: str) -> None:
        headers = {"Idempotency-Key": key.encode("latin-1")}
        answer = api.post(RUN, json=_body(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_IDEMPOTENCY_KEY")

    def test_a_key_on_get_is_ignored(self, api: Api) -> None:
        assert api.get("/api/v1/tasks?limit=1", headers={"Idempotency-Key": ""}).status_code == 200


class TestRun:
    def test_a_succeeded_run_shows_all(self, api: Api) -> None:
        run_id = api.run("sample.add_numbers", {"a": 2, "b": 3})
        api.work(run_id)
        run = api.get(f"/api/v1/tasks/{run_id}").json()
        assert set(run) == FIELDS
        assert (run["status"], run["attempt"], run["result"]) == ("SUCCEEDED", 1, {"sum": 5})
        for moment in ("created_at", "started_at", "finished_at", "updated_at"):
            assert MOMENT.fullmatch(run[moment])
        children = run["links"].pop("children")
        assert children == f"/api/v1/tasks?parent_id={run_id}"
        for link in run["links"].values():
            assert link.startswith(f"/api/v1/tasks/{run_id}")

    def test_a_failed_run_tells_why_and_where_it_lies(self, api: Api) -> None:
        run_id = api.run("sample.fail_always", {})
        api.work(run_id)
        run = api.get(f"/api/v1/tasks/{run_id}").json()
        assert run["status"] == "FAILED"
        assert run["error"]["message"] == "it cannot work"
        assert set(run["error"]) == {"type", "message", "retryable"}
        assert run["dead_letter_id"]

    @pytest.mark.parametrize(
        "run_id",
        [
            "00000000-0000-0000-0000-000000000000",
            "nope",
            "{x}",
            "urn:uuid:0190f4a8-1f0c-7498-9af2-388ac8beb3cd",
            "a" * 300,
        ],
    )
    def test_an_unknown_run_is_404(self, api: Api, run_id: str) -> None:
        for suffix in ("", "/result", "/events", "/logs"):
            answer = api.get(f"/api/v1/tasks/{run_id}{suffix}")
            assert (answer.status_code, answer.json()["code"]) == (404, "RUN_NOT_FOUND")

    def test_an_id_has_one_canonical_form(self, api: Api) -> None:
        run_id = api.run("sample.add_numbers", {"a": 1})
        assert api.get(f"/api/v1/tasks/{run_id.upper()}").json()["task_id"] == run_id

    def test_another_tenants_run_is_404_like_an_unknown_one(self, api: Api) -> None:
        run_id = api.run("sample.add_numbers", {"a": 1})
        for suffix in ("", "/result", "/events", "/logs"):
            foreign = api.get(f"/api/v1/tasks/{run_id}{suffix}", "foreigner").json()
            unknown = api.get(f"/api/v1/tasks/{uuid.uuid4()}{suffix}", "foreigner").json()
            assert {**foreign, "trace_id": ""} == {**unknown, "trace_id": ""}
        assert api.post(f"/api/v1/tasks/{run_id}/cancel", "foreigner").status_code == 404

    def test_events_tell_each_transition(self, api: Api) -> None:
        run_id = api.run("sample.add_numbers", {"a": 1})
        api.work(run_id)
        events = api.get(f"/api/v1/tasks/{run_id}/events").json()["items"]
        assert [(event["from"], event["to"]) for event in events] == [
            (None, "PENDING"),
            ("PENDING", "RUNNING"),
            ("RUNNING", "SUCCEEDED"),
        ]
        assert set(events[0]) == {"at", "from", "to", "attempt", "actor", "worker", "detail"}

    def test_logs_are_what_the_task_wrote(self, api: Api) -> None:
        run_id = api.run("sample.add_numbers", {"a": 7})
        api.work(run_id)
        (line,) = api.get(f"/api/v1/tasks/{run_id}/logs").json()["items"]
        assert (line["message"], line["fields"], line["level"]) == ("adding", {"a": 7}, "info")


class TestResult:
    def test_the_document_is_the_result_itself(self, api: Api) -> None:
        run_id = api.run("sample.add_numbers", {"a": 2})
        api.work(run_id)
        answer = api.get(f"/api/v1/tasks/{run_id}/result")
        assert (answer.status_code, answer.json()) == (200, {"sum": 2})
        assert answer.headers["content-type"] == "application/json"

    def test_a_stored_document_is_streamed(self, api: Api) -> None:
        run_id = api.run("sample.store_result", {})
        api.work(run_id)
        answer = api.get(f"/api/v1/tasks/{run_id}/result")
        assert (answer.status_code, answer.json()) == (200, {"stored": True})
        assert answer.headers["content-length"] == str(len(answer.content))
        run = api.get(f"/api/v1/tasks/{run_id}").json()
        assert (run["result"], run["result_stored"]) == (None, True)

    def test_it_is_served_at_the_older_path_too(self, api: Api) -> None:
        run_id = api.run("sample.add_numbers", {"a": 2})
        api.work(run_id)
        assert api.get(f"/older/{run_id}/result").json() == {"sum": 2}
        assert api.get(f"/older/{run_id}/result", role=None).status_code == 401

    def test_before_the_end_and_after_a_failure_it_is_409(self, api: Api) -> None:
        waiting = api.run("sample.add_numbers", {"a": 1})
        failed = api.run("sample.fail_always", {})
        api.work(failed)
        for run_id in (waiting, failed):
            answer = api.get(f"/api/v1/tasks/{run_id}/result")
            assert (answer.status_code, answer.json()["code"]) == (409, "TASK_NOT_FINISHED")


class TestCancel:
    def test_a_waiting_run_is_cancelled_once(self, api: Api) -> None:
        run_id = api.run("sample.add_numbers", {"a": 1})
        answer = api.post(f"/api/v1/tasks/{run_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "CANCELLED")
        again = api.post(f"/api/v1/tasks/{run_id}/cancel")
        assert (again.status_code, again.json()["code"]) == (409, "RUN_HAS_ENDED")


class TestList:
    def test_newest_first_in_pages(self, api: Api) -> None:
        label = uuid.uuid4().hex
        made = [api.run("sample.add_numbers", {"a": n}, labels={"page": label}) for n in range(5)]
        found: list[str] = []
        cursor = ""
        while True:
            page = api.get(f"/api/v1/tasks?label.page={label}&limit=2{cursor}").json()
            assert set(page) == {"items", "next_cursor"}
            found += [run["task_id"] for run in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert found == made[::-1]

    def test_filters_narrow_the_list(self, api: Api) -> None:
        label = uuid.uuid4().hex
        done = api.run("sample.add_numbers", {"a": 1}, labels={"set": label})
        api.work(done)
        failed = api.run("sample.fail_always", {}, labels={"set": label})
        api.work(failed)
        waiting = api.run("sample.add_numbers", {"a": 1}, labels={"set": label})

        def ids(query: str) -> list[str]:
            answer = api.get(f"/api/v1/tasks?label.set={label}&{query}")
            assert answer.status_code == 200, answer.text
            return [run["task_id"] for run in answer.json()["items"]]

        assert ids("status=SUCCEEDED") == [done]
        assert ids("status=FAILED&status=PENDING") == [waiting, failed]
        assert ids("task=sample.fail_always") == [failed]
        assert ids("q=cannot") == [failed]
        assert ids("q=%25") == []
        assert ids("queue=default") == [waiting, failed, done]
        assert ids("created_after=2099-01-01T00:00:00Z") == []
        assert ids("created_before=2099-01-01T00:00:00Z") == [waiting, failed, done]
        assert ids(f"parent_id={uuid.uuid4()}") == []
        assert ids("label.other=x") == []

    def test_secret_looking_parameters_are_masked_in_the_list(self, api: Api) -> None:
        label = uuid.uuid4().hex
        run_id = api.run("sample.fail_always", {"password": "hunter2"}, labels={"s": label})
        listed = api.get(f"/api/v1/tasks?label.s={label}")
        assert "hunter2" not in listed.text
        assert api.get(f"/api/v1/tasks/{run_id}").json()["params"] == {"password": "hunter2"}

    def test_another_tenants_runs_are_not_listed(self, api: Api) -> None:
        label = uuid.uuid4().hex
        api.run("sample.add_numbers", {"a": 1}, labels={"mine": label})
        listed = api.get(f"/api/v1/tasks?label.mine={label}", "foreigner").json()
        assert listed["items"] == []

    def test_a_cursor_works_only_in_its_own_list(self, api: Api) -> None:
        for _ in range(2):
            api.run("sample.add_numbers", {"a": 1})
        cursor = api.get("/api/v1/tasks?limit=1").json()["next_cursor"]
        assert api.get(f"/api/v1/tasks?limit=1&cursor={cursor}").status_code == 200
        last = "A" if cursor[-1] != "A" else "B"
        first = "A" if cursor[0] != "A" else "B"
        for path, role in [
            (f"/api/v1/tasks?cursor={cursor[:-1]}{last}", "operator"),
            (f"/api/v1/tasks?cursor={first}{cursor[1:]}", "operator"),
            (f"/api/v1/tasks?cursor={cursor}&queue=default", "operator"),
            (f"/api/v1/tasks?cursor={cursor}", "foreigner"),
            ("/api/v1/tasks?cursor=nonsense", "operator"),
            ("/api/v1/tasks?cursor=", "operator"),
        ]:
            answer = api.get(path, role)
            assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_CURSOR")
