"""Jobs that are compared with an earlier one: only what is new weighs."""

import csv
import io
from typing import Any

import pytest

from tests.contract.plugins.lint.yard import Yard

BEFORE = {
    "p-1/moved.sql": b"SELECT a  FROM b\n",
    "p-1/fixed.sql": b"SELECT a  FROM b\n",
    "p-1/worse.sql": b"SELECT a FROM b\n",
    "p-1/gone.sql": b"SELECT a  FROM b\n",
    "p-1/broken.sql": b"SELECT (\n",
    "p-1/binary.sql": b"SELECT\x00",
}
AFTER = {
    "p-2/moved.sql": b"-- a comment\n\nSELECT a  FROM b\n",
    "p-2/fixed.sql": b"SELECT a FROM b\n",
    "p-2/worse.sql": b"SELECT a FROM b\nWHERE c  = 1\n",
    "p-2/broken.sql": b"SELECT (\n",
    "p-2/binary.sql": b"SELECT\x00",
}
UNCHANGED = {name: text for name, text in AFTER.items() if "worse" not in name}


def archive(yard: Yard, members: dict[str, bytes], **more: Any) -> str:
    job_id = yard.submit_zip(members, **more)
    yard.work()
    return job_id


def report(yard: Yard, job_id: str, **query: str) -> Any:
    answer = yard.call("GET", f"/api/v1/jobs/{job_id}/report", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json() if query.get("format", "json") in {"json", "sarif"} else answer.text


@pytest.fixture(scope="module")
def earlier(yard: Yard) -> str:
    return archive(yard, BEFORE)


@pytest.fixture(scope="module")
def later(yard: Yard, earlier: str) -> str:
    return archive(yard, AFTER, baseline_job_id=earlier)


def test_only_what_is_new_keeps_a_job_from_passing(yard: Yard, earlier: str, later: str) -> None:
    job = yard.job(later, size=20)
    assert (job["baseline_job_id"], job["passed"]) == (earlier, False)
    files = {item["file_name"].partition("/")[2]: item for item in job["sub_tasks"]["items"]}
    found = {
        name: (item["passed"], item["new_count"], item["fixed_count"])
        for name, item in files.items()
    }
    assert found == {
        "moved.sql": (True, 0, 0),
        "fixed.sql": (True, 0, 1),
        "worse.sql": (False, 1, 0),
        "broken.sql": (True, 0, 0),
        "binary.sql": (True, 0, 0),
    }
    figures = job["figures"]
    # The file that is gone had one, too.
    assert (figures["new"], figures["fixed"], figures["unchanged"]) == (1, 2, 3)
    same = yard.job(archive(yard, UNCHANGED, baseline_job_id=earlier))
    assert (same["passed"], same["job_status"]) == (True, "PARTIALLY_COMPLETED")
    assert yard.job(archive(yard, UNCHANGED))["passed"] is False


def test_json_tells_new_and_fixed(yard: Yard, earlier: str, later: str) -> None:
    document = report(yard, later)
    assert document["job"]["baseline_job_id"] == earlier
    files = {file["file_name"].partition("/")[2]: file for file in document["files"]}
    assert files["worse.sql"]["is_new"] == [True]
    assert files["moved.sql"]["is_new"] == [False]
    (fixed,) = files["fixed.sql"]["fixed"]
    assert (fixed["code"], fixed["line"]) == ("LT01", 1)
    (gone,) = document["gone_files"]
    assert (gone["file_name"], len(gone["fixed"])) == ("p-1/gone.sql", 1)
    summary = document["summary"]
    assert (summary["new"], summary["fixed"], summary["unchanged"]) == (1, 2, 3)
    assert summary["passed"] is False


def test_any_two_jobs_can_be_compared_afterwards(yard: Yard, earlier: str, later: str) -> None:
    plain = archive(yard, AFTER)
    alone = report(yard, plain)
    assert not {"new", "fixed"} & alone["summary"].keys()
    assert "gone_files" not in alone
    compared = report(yard, plain, baseline=earlier)
    assert compared["summary"] == report(yard, later)["summary"]
    back = report(yard, earlier, baseline=later)["summary"]
    assert (back["new"], back["fixed"], back["unchanged"]) == (2, 1, 3)
    itself = report(yard, later, baseline=later)["summary"]
    assert (itself["new"], itself["fixed"], itself["passed"]) == (0, 0, True)


def test_the_other_forms_know_what_is_new(yard: Yard, later: str) -> None:
    (run,) = report(yard, later, format="sarif")["runs"]
    states = [result["baselineState"] for result in run["results"]]
    assert sorted(states) == ["absent", "absent", "new", "unchanged", "unchanged"]
    assert run["properties"]["passed"] is False
    commands = report(yard, later, format="github").splitlines()
    assert ["p-2/worse.sql" in command for command in commands] == [True]
    rows = csv.DictReader(io.StringIO(report(yard, later, format="csv"), newline=""))
    states = [row["state"] for row in rows]
    assert sorted(states) == ["fixed", "fixed", "new", *["unchanged"] * 3]
    page = report(yard, later, format="html")
    assert "<dt>new</dt><dd>1</dd>" in page
    assert "<dt>fixed</dt><dd>2</dd>" in page
    assert "not passed" in page
    fresh = page.partition("New since the baseline")[2].partition("</section>")[0]
    assert fresh.count("<tr") == 1
    assert "p-2/worse.sql" in fresh
    assert '<span class="count good">gone</span>' in page


def test_single_files_are_compared_whatever_they_are_called(yard: Yard) -> None:
    first = yard.upload("report.sql", b"SELECT a  FROM b\n").json()["job_id"]
    yard.work()
    body = {"sql_content": "SELECT a  FROM b\nWHERE c  = 1\n", "baseline_job_id": first}
    second = yard.submit(**body)
    yard.work()
    job = yard.job(second)
    assert (job["figures"]["new"], job["figures"]["unchanged"]) == (1, 1)
    third = yard.upload("other.sql", b"SELECT a  FROM b\n", baseline_job_id=second)
    yard.work()
    figures = yard.job(third.json()["job_id"])["figures"]
    assert (figures["new"], figures["fixed"], figures["unchanged"]) == (0, 1, 1)


def test_a_known_file_is_compared_as_well(knowing_yard: Yard) -> None:
    yard = knowing_yard
    first = archive(yard, {"a.sql": b"SELECT a  FROM b\n", "b.sql": b"SELECT a FROM b\n"})
    again = yard.submit_zip({"a.sql": b"SELECT a  FROM b\n"}, baseline_job_id=first)
    yard.work()
    job = yard.job(again)
    assert (job["passed"], job["figures"]["new"], job["figures"]["unchanged"]) == (True, 0, 1)
    (file,) = report(yard, again)["files"]
    assert file["is_new"] == [False]


def test_a_baseline_that_is_gone_by_now_makes_everything_new(yard: Yard) -> None:
    first = archive(yard, {"a.sql": b"SELECT a  FROM b\n"})
    (file,) = yard.files(first).values()
    second = yard.submit_zip({"a.sql": b"SELECT a  FROM b\n"}, baseline_job_id=first)
    (yard.storage / file["result_file_path"]).unlink()
    yard.work()
    assert yard.job(second)["figures"]["new"] == 1
    assert report(yard, second)["summary"]["new"] == 1


@pytest.mark.parametrize("way", ["json", "upload", "report"])
def test_a_baseline_must_be_an_ended_job_that_the_caller_sees(yard: Yard, way: str) -> None:
    theirs = yard.submit("admin", sql_content="SELECT 1\n")
    going = yard.submit(sql_content="SELECT 1\n")
    mine = archive(yard, {"a.sql": b"SELECT 1\n"}) if way == "report" else ""
    other = yard.submit("admin", sql_content="SELECT 2\n")
    for job_id in (other, "job-unknown", *(() if way == "report" else (theirs, going))):
        if way == "json":
            body = {"sql_content": "SELECT 1", "baseline_job_id": job_id}
            answer = yard.call("POST", "/api/v1/jobs", json=body)
            assert answer.status_code == 422, answer.text
            assert answer.json()["errors"][0]["loc"] == ["body", "baseline_job_id"]
        elif way == "upload":
            answer = yard.upload("a.sql", b"SELECT 1\n", baseline_job_id=job_id)
            assert answer.status_code == 422, answer.text
        else:
            path = f"/api/v1/jobs/{mine}/report"
            answer = yard.call("GET", path, params={"baseline": job_id})
            assert answer.status_code == 404, answer.text
