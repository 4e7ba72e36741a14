"""What can be asked for: lists of jobs, dialects and rules."""

from typing import Any

import pytest

from tests.contract.plugins.lint.yard import Yard


def listed(yard: Yard, **filters: Any) -> list[str]:
    answer = yard.call("GET", "/api/v1/jobs", params={"limit": 200, **filters})
    assert answer.status_code == 200, answer.text
    return [job["job_id"] for job in answer.json()["items"]]


def test_jobs_are_filtered(yard: Yard) -> None:
    text = yard.submit(sql_content="SELECT 1\n", dialect="tsql")
    archive = yard.submit_zip({"a.sql": b"SELECT 1\n"}, dialect="mysql")
    moment = yard.job(archive)["created_at"]
    assert listed(yard, dialect="tsql") == [text]
    assert archive in listed(yard, submission_type="ZIP_ARCHIVE")
    assert text not in listed(yard, submission_type="ZIP_ARCHIVE")
    assert listed(yard, created_after=moment) == [archive]
    assert archive not in listed(yard, created_before=moment)
    assert text in listed(yard, created_before=moment)
    assert listed(yard, dialect="tsql", status="COMPLETED") == []
    yard.work()
    assert listed(yard, dialect="tsql", status="COMPLETED") == [text]


@pytest.mark.parametrize(
    "wrong",
    [
        {"submission_type": "TEXT"},
        {"created_after": "yesterday"},
        {"created_after": "2026-01-02T00:00:00Z", "created_before": "2026-01-01T00:00:00Z"},
        {"dialect": "x" * 33},
    ],
)
def test_a_wrong_filter_is_422(yard: Yard, wrong: dict[str, str]) -> None:
    assert yard.call("GET", "/api/v1/jobs", params=wrong).status_code == 422


def test_a_cursor_belongs_to_its_filters(yard: Yard) -> None:
    for _ in range(2):
        yard.submit(sql_content="SELECT 1\n", dialect="db2")
    query = {"dialect": "db2", "limit": 1}
    first = yard.call("GET", "/api/v1/jobs", params=query).json()
    cursor = first["next_cursor"]
    second = yard.call("GET", "/api/v1/jobs", params={**query, "cursor": cursor}).json()
    assert len({first["items"][0]["job_id"], second["items"][0]["job_id"]}) == 2
    other = {"dialect": "tsql", "limit": 1, "cursor": cursor}
    assert yard.call("GET", "/api/v1/jobs", params=other).status_code == 400


def test_every_dialect_that_is_listed_is_accepted(yard: Yard) -> None:
    answer = yard.call("GET", "/api/v1/lint/dialects", "viewer").json()
    names = [item["name"] for item in answer["items"]]
    assert answer["default"] in names
    assert {"name": "tsql", "label": "Microsoft T-SQL"} in answer["items"]
    for name in names:
        yard.submit(sql_content="SELECT 1\n", dialect=name)


def test_every_selector_of_a_listed_rule_is_accepted(yard: Yard) -> None:
    items = yard.call("GET", "/api/v1/lint/rules", "viewer").json()["items"]
    (spacing,) = [item for item in items if item["code"] == "LT01"]
    assert spacing == {
        "code": "LT01",
        "name": "layout.spacing",
        "groups": ["all", "core", "layout"],
        "aliases": spacing["aliases"],
        "description": "Inappropriate Spacing.",
        "fixable": True,
    }
    selectors = [[item["code"], item["name"], *item["groups"]] for item in items]
    yard.submit(sql_content="SELECT 1\n", rules=sorted({one for some in selectors for one in some}))
