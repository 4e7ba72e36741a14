"""Stored profiles: their life, what a job takes of one, and whether it has passed."""

from typing import Any

import pytest
from httpx2 import Response

from tests.contract.plugins.lint.yard import Yard

PATH = "/api/v1/lint/profiles"
SPACED = "SELECT a  FROM b\n"


def store(yard: Yard, name: str, **content: Any) -> Response:
    return yard.call("POST", PATH, json={"name": name, **content})


def ended(yard: Yard, **body: Any) -> dict[str, Any]:
    job_id = yard.submit(sql_content=body.pop("sql", SPACED), **body)
    yard.work()
    return yard.job(job_id)


def test_a_profile_is_stored_read_replaced_and_removed(yard: Yard) -> None:
    content = {
        "description": "How we write SQL",
        "dialect": "Postgres",
        "rules": ["core", "LT01"],
        "options": {"max_line_length": 100},
        "severities": {"lt01": "error", "layout": "note", "CP02": "off"},
        "fail_on": "error",
        "obey_comments": False,
    }
    made = store(yard, "life", **content)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"{PATH}/life"
    kept = made.json()
    assert (kept["dialect"], kept["rules"], kept["version"]) == ("postgres", ["LT01", "core"], 1)
    assert kept["severities"] == {"LT01": "error", "layout": "note", "CP02": "off"}
    assert yard.call("GET", f"{PATH}/life", "viewer").json() == kept

    changed = yard.call("PUT", f"{PATH}/life", json={"version": 1, "fail_on": "never"})
    assert changed.status_code == 200, changed.text
    now = changed.json()
    assert (now["version"], now["fail_on"], now["rules"]) == (2, "never", None)
    late = yard.call("PUT", f"{PATH}/life", json={"version": 1})
    assert (late.status_code, late.json()["code"]) == (412, "LINT_PROFILE_CHANGED")
    assert yard.call("PUT", f"{PATH}/life", json={}).json()["version"] == 3

    assert yard.call("DELETE", f"{PATH}/life").status_code == 204
    for method in ("GET", "DELETE"):
        gone = yard.call(method, f"{PATH}/life")
        assert (gone.status_code, gone.json()["code"]) == (404, "LINT_PROFILE_NOT_FOUND")
    assert yard.call("PUT", f"{PATH}/life", json={}).status_code == 404


def test_a_name_is_taken_once(yard: Yard) -> None:
    assert store(yard, "twice").status_code == 201
    again = store(yard, "twice", dialect="mysql")
    assert (again.status_code, again.json()["code"]) == (409, "LINT_PROFILE_TAKEN")


def test_the_list_pages_by_name(yard: Yard) -> None:
    names = [f"page-{letter}" for letter in "cab"]
    for name in names:
        store(yard, name)
    seen, cursor = [], None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = yard.call("GET", PATH, "viewer", params=query).json()
        seen += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [name for name in seen if name in names] == sorted(names)
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("wrong", "loc"),
    [
        ({"name": "Upper"}, "name"),
        ({"name": ""}, "name"),
        ({"dialect": "sqlx"}, "dialect"),
        ({"rules": ["LT01", "XX01"]}, "rules"),
        ({"options": {"library_path": "x"}}, "options"),
        ({"options": {"max_line_length": -1}}, "options"),
        ({"severities": {"LT01": "fatal"}}, "severities"),
        ({"severities": {"XX01": "error"}}, "severities"),
        ({"fail_on": "style"}, "fail_on"),
        ({"templater": "liquid"}, "templater"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_wrong_profile_is_422_and_not_stored(yard: Yard, wrong: dict[str, Any], loc: str) -> None:
    answer = yard.call("POST", PATH, json={"name": "wrong", **wrong})
    assert answer.status_code == 422, answer.text
    assert loc in answer.json()["errors"][0]["loc"]
    assert yard.call("GET", f"{PATH}/wrong").status_code == 404


def test_only_who_may_manage_writes(yard: Yard) -> None:
    assert yard.call("POST", PATH, "viewer", json={"name": "mine"}).status_code == 403
    store(yard, "guarded")
    assert yard.call("PUT", f"{PATH}/guarded", "viewer", json={}).status_code == 403
    assert yard.call("DELETE", f"{PATH}/guarded", "viewer").status_code == 403


def test_severities_decide_what_passes(yard: Yard) -> None:
    assert ended(yard)["passed"] is False
    store(yard, "lenient", severities={"LT01": "note"})
    job = ended(yard, profile="lenient")
    assert (job["passed"], job["profile_name"]) == (True, "lenient")
    assert job["figures"]["findings"] == {"error": 0, "warning": 0, "note": 1}
    (file,) = job["sub_tasks"]["items"]
    assert (file["passed"], file["counts"]["note"]) == (True, 1)
    document = yard.call("GET", f"/api/v1/tasks/{file['task_id']}/result").json()
    assert (document["passed"], document["fail_on"]) == (True, "warning")
    assert (document["profile_name"], document["profile_version"]) == ("lenient", 1)
    assert document["counts"] == file["counts"]
    # What the request says itself counts more.
    assert ended(yard, profile="lenient", fail_on="note")["passed"] is False
    assert ended(yard, fail_on="error")["passed"] is True


def test_a_rule_that_is_off_finds_nothing(yard: Yard) -> None:
    store(yard, "off", severities={"layout": "off"})
    job = ended(yard, profile="off")
    assert job["figures"]["findings"] == {"error": 0, "warning": 0, "note": 0}
    assert job["passed"] is True


def test_options_and_rules_of_a_profile_reach_the_lint(yard: Yard) -> None:
    store(yard, "short", rules=["LT05"], options={"max_line_length": 10})
    job_id = yard.submit(sql_content="SELECT a, b, c FROM d\n", profile="short")
    yard.work()
    report = yard.call("GET", f"/api/v1/jobs/{job_id}/report").json()
    assert report["summary"]["by_rule"] == {"LT05": 1}
    assert (report["job"]["profile_name"], report["job"]["profile_version"]) == ("short", 1)


def test_no_comment_counts_where_the_profile_says_so(yard: Yard) -> None:
    sql = "-- sqlfluff:exclude_rules:LT01\nSELECT a  FROM b -- noqa\n"
    assert ended(yard, sql=sql)["passed"] is True
    store(yard, "gate", obey_comments=False)
    job_id = yard.submit(sql_content=sql, profile="gate")
    yard.work()
    (file,) = yard.call("GET", f"/api/v1/jobs/{job_id}/report").json()["files"]
    assert [violation["code"] for violation in file["violations"]] == ["LT01"]
    assert [notice["code"] for notice in file["notices"]] == ["DIRECTIVE_IGNORED"]


def test_a_job_keeps_what_the_profile_said_when_it_was_submitted(yard: Yard) -> None:
    store(yard, "moving", severities={"LT01": "note"})
    job_id = yard.submit(sql_content=SPACED, profile="moving")
    yard.call("PUT", f"{PATH}/moving", json={"severities": {"LT01": "error"}})
    yard.work()
    assert yard.job(job_id)["passed"] is True
    assert ended(yard, profile="moving")["passed"] is False
    yard.call("DELETE", f"{PATH}/moving")
    assert yard.job(job_id)["profile_name"] == "moving"


def test_an_unknown_profile_is_422_and_leaves_nothing(yard: Yard) -> None:
    answer = yard.call("POST", "/api/v1/jobs", json={"sql_content": "SELECT 1", "profile": "none"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "profile"]
    upload = yard.upload("a.sql", b"SELECT 1\n", profile="none")
    assert upload.status_code == 422


def test_an_archive_passes_when_every_file_does(yard: Yard) -> None:
    good = {"a.sql": b"SELECT a FROM b\n", "b.sql": b"SELECT c FROM d\n"}
    bad = {**good, "c.sql": b"SELECT (\n"}
    ended_jobs = []
    for members, passed in ((good, True), (bad, False)):
        job_id = yard.submit_zip(members)
        yard.work()
        job = yard.job(job_id)
        assert job["passed"] is passed
        assert job["figures"]["ended"] == job["figures"]["files"] == len(members)
        summary = yard.call("GET", f"/api/v1/jobs/{job_id}/report").json()["summary"]
        assert summary["passed"] is passed
        ended_jobs.append(job_id)
    listed = yard.call("GET", "/api/v1/jobs", params={"passed": "false", "limit": 1}).json()
    assert listed["items"][0]["job_id"] == ended_jobs[-1]


def test_while_a_job_goes_on_nobody_knows_whether_it_passes(yard: Yard) -> None:
    job_id = yard.submit_zip({"a.sql": b"SELECT a FROM b\n"})
    assert "passed" not in yard.job(job_id)
    yard.work()
    assert yard.job(job_id)["passed"] is True


def test_what_was_cancelled_or_is_no_archive_has_not_passed(yard: Yard) -> None:
    waiting = yard.submit(sql_content="SELECT 1\n", fail_on="never")
    assert yard.call("POST", f"/api/v1/jobs/{waiting}/cancel").status_code == 202
    assert yard.job(waiting)["passed"] is False
    (yard.storage / "archives").mkdir(exist_ok=True)
    (yard.storage / "archives/broken.zip").write_bytes(b"PK\x03\x04 and no more")
    broken = yard.submit(zip_file_path="archives/broken.zip", fail_on="never")
    yard.work()
    assert (yard.job(broken)["job_status"], yard.job(broken)["passed"]) == ("FAILED", False)


def test_lint_sql_takes_a_profile(yard: Yard) -> None:
    store(yard, "text", dialect="tsql", severities={"LT01": "error"}, fail_on="error")

    def run(**params: Any) -> dict[str, Any]:
        body = {"task": "lint.sql", "params": {"sql": SPACED, **params}}
        task_id = yard.call("POST", "/api/v1/tasks/run", json=body).json()["task_id"]
        yard.work()
        return yard.run_status(task_id)

    document = run(profile="text")["result"]
    assert (document["dialect"], document["passed"]) == ("tsql", False)
    assert document["counts"] == {"error": 1, "warning": 0, "note": 0}
    assert (document["profile_name"], document["fail_on"]) == ("text", "error")
    assert run(profile="text", fail_on="never", dialect="ansi")["result"]["passed"] is True
    assert run()["result"]["profile_name"] is None
    unknown = run(profile="none")
    assert (unknown["status"], unknown["error"]["type"]) == ("FAILED", "LintOptionUnknown")
    assert "'none'" in unknown["error"]["message"]


def test_a_stored_profile_that_sqlfluff_has_outgrown_is_told(yard: Yard) -> None:
    store(yard, "old", rules=["LT01"])
    with yard.worker.databases.sync_transaction("mysql_lint") as session:
        from app.plugins.lint.stored_profiles import find_profile

        profile = find_profile(session, None, "old")
        profile.wish = {**profile.wish, "rules": ["L999"]}
    answer = yard.call("POST", "/api/v1/jobs", json={"sql_content": "SELECT 1", "profile": "old"})
    assert (answer.status_code, answer.json()["code"]) == (422, "LINT_FIELD_INVALID")
    assert "L999" in answer.json()["detail"]
