"""The task `lint.sql`: one text, no job."""

from typing import Any

import pytest

from tests.contract.plugins.lint.yard import Yard


def _run(yard: Yard, **params: Any) -> dict[str, Any]:
    answer = yard.call("POST", "/api/v1/tasks/run", json={"task": "lint.sql", "params": params})
    assert answer.status_code == 202, answer.text
    yard.work()
    return yard.run_status(answer.json()["task_id"])


def test_the_result_is_the_document(yard: Yard) -> None:
    run = _run(yard, sql="select a,b from c\n", dialect="Postgres", rules=["lt01"])
    assert run["status"] == "SUCCEEDED"
    document = run["result"]
    assert (document["file_name"], document["dialect"]) == ("query.sql", "postgres")
    assert [violation["code"] for violation in document["violations"]] == ["LT01"]
    assert document["profile"]["rules"] == ["LT01"]
    assert run["queue"] == "lint"


def test_a_large_result_is_streamed_from_the_storage(yard: Yard) -> None:
    run = _run(yard, sql="select a,b from c;\n" * 80)
    answer = yard.call("GET", f"/api/v1/tasks/{run['task_id']}/result")
    assert len(answer.content) > 65_536
    document = answer.json()
    assert document["statistics"]["violations"] == len(document["violations"]) > 80


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"sql": "SELECT 1", "dialect": "mysq"}, "dialect"),
        ({"sql": "SELECT 1", "rules": ["XX99"]}, "rules"),
        ({"sql": 1}, "sql"),
        ({}, "sql"),
    ],
)
def test_wrong_parameters_are_422(yard: Yard, params: dict[str, Any], field: str) -> None:
    body = {"task": "lint.sql", "params": params}
    answer = yard.call("POST", "/api/v1/tasks/run", json=body)
    assert answer.status_code == 422
    assert field in answer.json()["errors"][0]["loc"]


def test_a_lint_that_takes_too_long_fails_its_run_once(yard: Yard) -> None:
    joins = "".join(f"JOIN t{n} ON t.x = t{n}.x\n" for n in range(1500))
    run = _run(yard, sql=f"SELECT * FROM t\n{joins}")
    assert (run["status"], run["attempt"]) == ("FAILED", 1)
    assert run["error"]["type"] == "LintTimeout"
    assert "split the file" in run["error"]["message"]
    assert run["dead_letter_id"] is None
    assert _run(yard, sql="SELECT 1\n")["status"] == "SUCCEEDED"


def test_the_four_names_are_registered_with_their_schemas(yard: Yard) -> None:
    items = yard.call("GET", "/api/v1/tasks/registered").json()["items"]
    by_name = {item["name"]: item for item in items}
    assert {"lint.sql", "lint.process_sql_file", "lint.expand_zip_and_dispatch_tasks"} <= set(
        by_name
    )
    schema = by_name["lint.sql"]["params_schema"]
    assert schema["required"] == ["sql"]
    assert by_name["lint.process_sql_file"]["params_schema"]["required"] == ["task_id"]
