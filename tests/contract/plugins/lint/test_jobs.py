"""The seed's contract of lint jobs, over HTTP and through the real executor."""

import json
from typing import Any

import pytest

from tests.contract.plugins.lint.yard import Yard

UGLY = "select a , B from C join d on x=y\n"


def test_a_text_goes_all_the_way(yard: Yard) -> None:
    answer = yard.call("POST", "/api/v1/jobs", json={"sql_content": UGLY, "dialect": "mysql"})
    assert answer.status_code == 202
    job_id = answer.json()["job_id"]
    assert list(answer.json()) == ["job_id"]
    assert job_id.startswith("job-")
    assert answer.headers["Location"] == f"/api/v1/jobs/{job_id}"
    before = yard.job(job_id)
    assert before["job_status"] == "ACCEPTED"
    assert before["sub_tasks"]["items"][0]["status"] == "PENDING"

    yard.work()

    job = yard.job(job_id)
    assert job["job_status"] == "COMPLETED"
    assert job["submission_type"] == "SINGLE_FILE"
    assert job["source_path"] == f"jobs/{job_id}/source/query.sql"
    assert job["created_at"].endswith("Z")
    assert "error_message" not in job
    (item,) = job["sub_tasks"]["items"]
    task_id = item["task_id"]
    assert item["status"] == "SUCCESS"
    assert item["result_file_path"] == f"jobs/{job_id}/results/{task_id}.json"
    assert "error_message" not in item
    assert (yard.storage / job["source_path"]).read_text() == UGLY

    result = yard.call("GET", f"/api/v1/tasks/{task_id}/result")
    assert result.headers["content-type"] == "application/json"
    assert result.json() == json.loads((yard.storage / item["result_file_path"]).read_bytes())
    document = result.json()
    assert document["dialect"] == "mysql"
    assert {"LT01", "CP02"} <= {violation["code"] for violation in document["violations"]}
    assert item["violation_count"] == len(document["violations"])


def test_the_older_paths_answer_alike(yard: Yard) -> None:
    answer = yard.call("POST", "/jobs", json={"sql_content": UGLY})
    job_id = answer.json()["job_id"]
    assert answer.headers["Location"] == f"/jobs/{job_id}"
    yard.work()
    (item,) = yard.call("GET", f"/jobs/{job_id}").json()["sub_tasks"]["items"]
    old = yard.call("GET", f"/tasks/{item['task_id']}/result")
    new = yard.call("GET", f"/api/v1/tasks/{item['task_id']}/result")
    assert old.status_code == new.status_code == 200
    assert old.json() == new.json()
    assert yard.call("GET", "/jobs").status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/jobs"])
@pytest.mark.parametrize("body", [{}, {"sql_content": "SELECT 1", "zip_file_path": "a.zip"}])
def test_neither_or_both_is_the_exact_400(yard: Yard, path: str, body: dict[str, str]) -> None:
    answer = yard.call("POST", path, json=body)
    assert answer.status_code == 400
    assert answer.json()["detail"] == "Either 'sql_content' or 'zip_file_path' must be provided."


@pytest.mark.parametrize(
    "path",
    ["../secret.zip", "/etc/passwd", "a/../../b.zip", "missing.zip", "", "a\\b.zip", "C:/x.zip"],
)
def test_a_path_that_is_no_file_below_the_root_is_400(yard: Yard, path: str) -> None:
    answer = yard.call("POST", "/api/v1/jobs", json={"zip_file_path": path})
    assert answer.status_code == 400, answer.text


def test_a_link_out_of_the_root_is_400(
    yard: Yard, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "x.zip"
    outside.write_bytes(b"PK")
    yard.storage.mkdir(exist_ok=True)
    link = yard.storage / "link.zip"
    if not link.is_symlink():
        link.symlink_to(outside)
    answer = yard.call("POST", "/api/v1/jobs", json={"zip_file_path": "link.zip"})
    assert answer.status_code == 400, answer.text


def test_another_jobs_source_is_not_input(yard: Yard) -> None:
    job_id = yard.submit(sql_content=UGLY)
    path = f"jobs/{job_id}/source/query.sql"
    assert yard.call("POST", "/api/v1/jobs", json={"zip_file_path": path}).status_code == 400
    admin = yard.call("POST", "/api/v1/jobs", "admin", json={"zip_file_path": path})
    assert admin.status_code == 202


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("dialect", "mysq", "Did you mean 'mysql'"),
        ("rules", ["LT01", "layout.spaces"], "'layout.spacing'"),
        ("exclude_rules", ["nope"], "Unknown rule 'nope'"),
        ("templater", "jinja", "Unknown templater 'jinja'"),
        ("sql_content", "  \n ", "holds no SQL"),
        ("sql_content", 5, ""),
        ("surprise", 1, ""),
    ],
)
def test_a_wrong_field_is_422_and_leaves_nothing(
    yard: Yard, field: str, value: Any, words: str
) -> None:
    folders = set((yard.storage / "jobs").glob("*"))
    body = {"sql_content": "SELECT 1", field: value}
    answer = yard.call("POST", "/api/v1/jobs", json=body)
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["detail"]
    assert answer.json()["errors"][0]["loc"][:2] == ["body", field]
    assert set((yard.storage / "jobs").glob("*")) == folders


def test_every_wrong_name_has_its_entry(yard: Yard) -> None:
    body = {"sql_content": "SELECT 1", "dialect": "x", "rules": ["LT01", "y", "z"]}
    errors = yard.call("POST", "/api/v1/jobs", json=body).json()["errors"]
    assert [error["loc"] for error in errors] == [
        ["body", "dialect"],
        ["body", "rules", 1],
        ["body", "rules", 2],
    ]


def test_a_text_over_the_limit_is_413(yard: Yard) -> None:
    answer = yard.call("POST", "/api/v1/jobs", json={"sql_content": "x" * (2**20 + 1)})
    assert answer.status_code == 413, answer.text


def test_rules_reach_the_lint(yard: Yard) -> None:
    job_id = yard.submit(sql_content=UGLY, rules=["lt01", "CP02"], exclude_rules=["CP02"])
    yard.work()
    (item,) = yard.job(job_id)["sub_tasks"]["items"]
    document = yard.call("GET", f"/api/v1/tasks/{item['task_id']}/result").json()
    assert {violation["code"] for violation in document["violations"]} == {"LT01"}
    assert document["profile"]["rules"] == ["CP02", "LT01"]


def test_a_templater_of_the_settings_renders_the_text(yard: Yard) -> None:
    sql = "SELECT a FROM {{ schema }}.b\n"
    job_id = yard.submit(sql_content=sql, templater="dbt")
    yard.work()
    (item,) = yard.job(job_id)["sub_tasks"]["items"]
    document = yard.call("GET", f"/api/v1/tasks/{item['task_id']}/result").json()
    assert (item["status"], document["violations"]) == ("SUCCESS", [])
    assert document["statistics"]["templated_chars"] < document["statistics"]["source_chars"]
    assert document["profile"]["templater"] == "dbt"
    assert "templating" not in document["profile"]
    params = {"sql": sql, "templater": "dbt"}
    body = {"task": "lint.sql", "params": params}
    known = yard.call("POST", "/api/v1/tasks/run", json=body).json()["task_id"]
    unknown = yard.call(
        "POST", "/api/v1/tasks/run", json={**body, "params": {**params, "templater": "jinja"}}
    ).json()["task_id"]
    yard.work()
    assert yard.run_status(known)["result"]["violations"] == []
    assert yard.run_status(unknown)["error"]["type"] == "LintOptionUnknown"


def test_an_unknown_job_is_the_exact_404(yard: Yard) -> None:
    for path in ("/api/v1/jobs/job-unknown", "/jobs/job-unknown"):
        answer = yard.call("GET", path)
        assert answer.status_code == 404
        assert answer.json()["detail"] == "Job not found"


@pytest.mark.parametrize("query", [{"page": 0}, {"size": 0}, {"size": 501}, {"pages": 1}])
def test_wrong_paging_is_422(yard: Yard, query: dict[str, int]) -> None:
    job_id = yard.submit(sql_content=UGLY)
    assert yard.call("GET", f"/api/v1/jobs/{job_id}", params=query).status_code == 422


def test_the_result_of_an_unfinished_file_is_409_and_of_an_unknown_one_404(yard: Yard) -> None:
    job_id = yard.submit(sql_content=UGLY)
    (item,) = yard.job(job_id)["sub_tasks"]["items"]
    assert yard.call("GET", f"/tasks/{item['task_id']}/result").status_code == 409
    unknown = "0192f0c1-2345-7abc-8def-0123456789ab"
    assert yard.call("GET", f"/tasks/{unknown}/result").status_code == 404


def test_an_unparsable_text_is_a_failure_with_the_place_and_a_document(yard: Yard) -> None:
    job_id = yard.submit(sql_content="SELECT a\nFROM (b\n")
    yard.work()
    job = yard.job(job_id)
    assert job["job_status"] == "FAILED"
    (item,) = job["sub_tasks"]["items"]
    assert item["status"] == "FAILURE"
    assert item["error_message"].startswith("Syntax error on line 2, position 6")
    document = yard.call("GET", f"/api/v1/tasks/{item['task_id']}/result").json()
    assert document["status"] == "unparsable"
    assert [violation["code"] for violation in document["violations"]] == ["PRS"]


def test_users_see_their_own_jobs_and_administrators_all(yard: Yard) -> None:
    mine = yard.submit(sql_content=UGLY)
    theirs = yard.submit("foreigner", sql_content=UGLY)
    as_viewer = yard.call("GET", f"/api/v1/jobs/{mine}", "viewer")
    assert (as_viewer.status_code, as_viewer.json()["detail"]) == (404, "Job not found")
    assert yard.call("GET", f"/api/v1/jobs/{theirs}").status_code == 404
    assert yard.job(mine, "admin")["job_id"] == mine
    listed = [job["job_id"] for job in yard.call("GET", "/api/v1/jobs").json()["items"]]
    assert mine in listed
    assert theirs not in listed
    everything = yard.call("GET", "/api/v1/jobs?limit=200", "admin").json()["items"]
    assert {mine, theirs} <= {job["job_id"] for job in everything}
    assert yard.call("GET", "/api/v1/jobs", "viewer").json()["items"] == []


def test_scopes_are_kept(yard: Yard) -> None:
    body = {"sql_content": UGLY}
    assert yard.call("POST", "/api/v1/jobs", "viewer", json=body).status_code == 403
    assert yard.call("GET", "/api/v1/jobs", "nobody").status_code == 403
    assert yard.client.post("/jobs", json=body).status_code == 401


def test_the_list_pages_from_new_to_old_and_filters(yard: Yard) -> None:
    submitted = [yard.submit(sql_content=UGLY) for _ in range(3)]
    yard.work()
    seen: list[str] = []
    cursor = None
    for _ in range(3):
        query = {"limit": "1", "status": "COMPLETED", **({"cursor": cursor} if cursor else {})}
        page = yard.call("GET", "/api/v1/jobs", params=query).json()
        seen += [job["job_id"] for job in page["items"]]
        cursor = page["next_cursor"]
    assert seen == submitted[::-1]
    last = yard.call("GET", "/api/v1/jobs?limit=200&status=PROCESSING").json()
    assert last == {"items": [], "next_cursor": None}
    for wrong in ("xyz", "1.abcdefghijkl", f"{cursor}"):
        answer = yard.call("GET", "/api/v1/jobs", params={"cursor": wrong})
        assert answer.status_code == 400
    assert yard.call("GET", "/api/v1/jobs?status=XYZ").status_code == 422


def test_a_second_delivery_changes_nothing(yard: Yard) -> None:
    job_id = yard.submit(sql_content=UGLY)
    yard.work()
    before = yard.job(job_id)
    (item,) = before["sub_tasks"]["items"]
    written = (yard.storage / item["result_file_path"]).stat().st_mtime_ns
    yard.deliver(item["task_id"])
    rerun = yard.call(
        "POST",
        "/api/v1/tasks/run",
        json={"task": "lint.process_sql_file", "params": {"task_id": item["task_id"]}},
    ).json()
    yard.work()
    assert yard.run_status(rerun["task_id"])["status"] == "SUCCEEDED"
    assert yard.job(job_id) == before
    assert (yard.storage / item["result_file_path"]).stat().st_mtime_ns == written


def test_a_source_that_disappeared_is_a_failure(yard: Yard) -> None:
    job_id = yard.submit(sql_content=UGLY)
    (yard.storage / f"jobs/{job_id}/source/query.sql").unlink()
    yard.work()
    (item,) = yard.job(job_id)["sub_tasks"]["items"]
    assert item["status"] == "FAILURE"
    assert "no longer on the storage" in item["error_message"]
    assert yard.call("GET", f"/api/v1/tasks/{item['task_id']}/result").status_code == 409
    run = yard.run_status(item["task_id"])
    assert (run["status"], run["error"]["type"], run["attempt"]) == ("FAILED", "LintFailed", 1)


@pytest.mark.parametrize(
    ("task", "params"),
    [
        ("lint.process_sql_file", {"task_id": "nope"}),
        ("lint.expand_zip_and_dispatch_tasks", {"job_id": "nope"}),
    ],
)
def test_a_task_for_what_does_not_exist_fails_at_once(
    yard: Yard, task: str, params: dict[str, str]
) -> None:
    body = {"task": task, "params": params}
    run_id = yard.call("POST", "/api/v1/tasks/run", json=body).json()["task_id"]
    yard.work()
    run = yard.run_status(run_id)
    assert (run["status"], run["error"]["type"]) == ("FAILED", "LintJobNotKnown")
