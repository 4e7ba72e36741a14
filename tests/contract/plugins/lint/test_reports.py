"""Every form of a job's report, of files that are called and written like attacks."""

import csv
import io
import json
import re
import tracemalloc
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest
from httpx2 import Response

from app.plugins.lint import repository
from app.plugins.lint.models import LintingTask
from app.plugins.lint.reports import FORMS as FORMS_OF
from app.plugins.lint.reports import JobContent, ReportFormat, encoded
from tests.contract.plugins.lint.yard import Yard

NASTY = "a/<script>alert(1)</script>,::error::%0A.sql"
MEMBERS = {
    "clean.sql": b"SELECT a FROM b\n",
    NASTY: b"SELECT a  FROM b\n",
    "=cmd|calc.sql": b"SELECT a  FROM b\nWHERE c  = 1\n",
    "broken.sql": b"SELECT (a\n",
    "binary.sql": b"SELECT\x00 1\n",
}
FORMS = {
    "json": ("application/json", ".json", "attachment"),
    "sarif": ("application/sarif+json", ".sarif", "attachment"),
    "csv": ("text/csv; charset=utf-8; header=present", ".csv", "attachment"),
    "html": ("text/html; charset=utf-8", ".html", "inline"),
    "github": ("text/plain; charset=utf-8", "-annotations.txt", "attachment"),
    "gitlab": ("application/json", "-codequality.json", "attachment"),
}
TEXT = {"type": "string", "minLength": 1}
MESSAGE = {"type": "object", "required": ["text"], "properties": {"text": TEXT}}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
ONE_UP = {"type": "integer", "minimum": 1}
LOCATION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["physicalLocation"],
    "properties": {
        "physicalLocation": {
            "type": "object",
            "additionalProperties": False,
            "required": ["artifactLocation"],
            "properties": {
                "artifactLocation": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["uri"],
                    # A relative reference of RFC 3986, which climbs nowhere.
                    "properties": {
                        "uri": {"type": "string", "pattern": r"^(?!/)(?!.*\.\./)[\w./~%-]+$"}
                    },
                },
                "region": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["startLine"],
                    "properties": dict.fromkeys(
                        ["startLine", "startColumn", "endLine", "endColumn"], ONE_UP
                    ),
                },
            },
        }
    },
}
# What SARIF 2.1.0 asks of the parts that are used here; its schema forbids other properties, too.
SARIF = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["tool", "results"],
                "properties": {
                    "properties": {"type": "object"},
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["name"],
                                "properties": {
                                    "name": TEXT,
                                    "version": TEXT,
                                    "informationUri": TEXT,
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "additionalProperties": False,
                                            "required": ["id"],
                                            "properties": {
                                                "id": TEXT,
                                                "name": TEXT,
                                                "shortDescription": MESSAGE,
                                                "defaultConfiguration": {
                                                    "properties": {"level": LEVEL}
                                                },
                                                "properties": {"type": "object"},
                                            },
                                        },
                                    },
                                },
                            }
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["message", "ruleId", "level", "locations"],
                            "properties": {
                                "ruleId": TEXT,
                                "level": LEVEL,
                                "message": MESSAGE,
                                "locations": {"type": "array", "minItems": 1, "items": LOCATION},
                                "baselineState": {
                                    "enum": ["new", "unchanged", "updated", "absent"]
                                },
                                "partialFingerprints": {
                                    "type": "object",
                                    "additionalProperties": TEXT,
                                },
                            },
                        },
                    },
                    "invocations": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["executionSuccessful"],
                            "properties": {
                                "executionSuccessful": {"type": "boolean"},
                                "toolExecutionNotifications": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "additionalProperties": False,
                                        "required": ["message"],
                                        "properties": {
                                            "level": LEVEL,
                                            "message": MESSAGE,
                                            "descriptor": {"required": ["id"]},
                                            "locations": {"type": "array", "items": LOCATION},
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


@pytest.fixture(scope="module")
def job_id(yard: Yard) -> str:
    """A job with clean, faulty, broken and binary files, named to do harm."""
    job_id = yard.submit_zip(MEMBERS, dialect="postgres")
    yard.work()
    assert yard.job(job_id)["job_status"] == "PARTIALLY_COMPLETED"
    return job_id


def report(yard: Yard, job_id: str, form: str) -> Response:
    answer = yard.call("GET", f"/api/v1/jobs/{job_id}/report", params={"format": form})
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("form", FORMS)
def test_each_form_says_what_it_is(yard: Yard, job_id: str, form: str) -> None:
    answer = report(yard, job_id, form)
    media_type, ending, disposition = FORMS[form]
    assert answer.headers["content-type"] == media_type
    name = f'{disposition}; filename="{job_id}{ending}"'
    assert answer.headers["content-disposition"] == name
    assert "content-length" not in answer.headers
    assert yard.call("GET", f"/jobs/{job_id}/report?format={form}").content == answer.content


def test_json_has_the_records_as_they_are(yard: Yard, job_id: str) -> None:
    document = report(yard, job_id, "json").json()
    found = {file["file_name"]: file for file in document["files"]}
    assert set(found) == set(MEMBERS)
    result = yard.call("GET", f"/api/v1/tasks/{found[NASTY]['task_id']}/result").json()
    assert found[NASTY]["violations"] == result["violations"]
    assert found["binary.sql"]["outcome"] == "binary"
    assert found["broken.sql"]["violations"][0]["code"] == "PRS"
    total = sum(len(file["violations"]) for file in document["files"])
    rules = document["summary"].pop("by_rule")
    levels = document["summary"].pop("by_level")
    assert levels == {"error": 2, "warning": total - 1, "note": 0}
    assert document["summary"] == {
        "files": 5,
        "failed": 2,
        "clean": 1,
        "violations": total,
        "passed": False,
    }
    assert len(found[NASTY]["severities"]) == len(found[NASTY]["violations"])
    assert sum(rules.values()) == total
    assert document["job"]["job_id"] == job_id
    assert yard.call("GET", f"/api/v1/jobs/{job_id}/report").json()["files"] == document["files"]


def test_sarif_is_what_its_schema_asks_for(yard: Yard, job_id: str) -> None:
    log = report(yard, job_id, "sarif").json()
    jsonschema.validate(log, SARIF)
    (run,) = log["runs"]
    known = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in run["results"]} <= known
    places = {
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]: result["level"]
        for result in run["results"]
    }
    assert places["broken.sql"] == "error"
    assert places["%3Dcmd%7Ccalc.sql"] == "warning"
    (notice,) = run["invocations"][0]["toolExecutionNotifications"]
    assert (notice["descriptor"]["id"], notice["level"]) == ("binary", "error")
    prints = [result["partialFingerprints"]["taskyardFinding/v1"] for result in run["results"]]
    assert len(set(prints)) == len(prints)


def test_fingerprints_stay_when_lines_move(yard: Yard) -> None:
    def fingerprints(text: bytes) -> list[str]:
        job = yard.submit_zip({"a.sql": text})
        yard.work()
        return [issue["fingerprint"] for issue in report(yard, job, "gitlab").json()]

    before = fingerprints(b"SELECT a  FROM b\n")
    assert before
    assert fingerprints(b"-- a comment\n\nSELECT a  FROM b\n") == before


def test_csv_holds_no_formula(yard: Yard, job_id: str) -> None:
    rows = list(csv.DictReader(io.StringIO(report(yard, job_id, "csv").text, newline="")))
    names = {row["file"] for row in rows}
    assert names == {NASTY, "'=cmd|calc.sql", "broken.sql", "binary.sql"}
    for row in rows:
        for cell in row.values():
            assert cell[:1] not in set("=+-@\t\r\n")
    (binary,) = [row for row in rows if row["file"] == "binary.sql"]
    assert (binary["rule"], binary["level"]) == ("binary", "error")
    spaced = [row for row in rows if row["file"] == "'=cmd|calc.sql" and row["rule"] == "LT01"]
    assert [(row["line"], row["position"]) for row in spaced] == [("1", "9"), ("2", "8")]


def test_github_commands_cannot_be_forged(yard: Yard, job_id: str) -> None:
    lines = report(yard, job_id, "github").text.splitlines()
    total = report(yard, job_id, "json").json()["summary"]["violations"]
    assert len(lines) == total + 1  # the file without a result
    command = re.compile(r"::(error|warning|notice) file=([^,:]+),line=\d+,[^:]*::(.+)")
    names = {found.group(2) for line in lines if (found := command.fullmatch(line))}
    escaped = "a/<script>alert(1)</script>%2C%3A%3Aerror%3A%3A%250A.sql"
    assert names == {escaped, "=cmd|calc.sql", "broken.sql", "binary.sql"}
    assert len(lines) == sum(command.fullmatch(line) is not None for line in lines)


def test_gitlab_has_what_code_quality_asks_for(yard: Yard, job_id: str) -> None:
    issues = report(yard, job_id, "gitlab").json()
    for issue in issues:
        assert set(issue) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert issue["severity"] in {"info", "minor", "major", "critical", "blocker"}
        assert issue["location"]["lines"]["begin"] >= 1
        assert not issue["location"]["path"].startswith(("/", "."))
    assert len({issue["fingerprint"] for issue in issues}) == len(issues)


class Page(HTMLParser):
    """The tags of a page, their attributes and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_html_runs_nothing_and_loads_nothing(yard: Yard, job_id: str) -> None:
    answer = report(yard, job_id, "html")
    page = Page(answer.text)
    policy = answer.headers["content-security-policy"]
    assert {"default-src 'none'", "sandbox"} <= {one.strip() for one in policy.split(";")}
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "section"),
        *("h1", "h2", "p", "dl", "div", "dt", "dd", "code", "span", "small", "a"),
        *("table", "tr", "th", "td", "details", "summary"),
    }
    attributes = sorted({name for _, attrs in page.tags for name in attrs})
    assert not any(name.startswith("on") or name == "src" for name in attributes)
    for tag, attrs in page.tags:
        if tag == "a":
            assert (attrs["href"] or "").startswith("#")
    assert NASTY in page.words
    assert "<script>" not in answer.text


def test_html_tells_the_figures(yard: Yard, job_id: str) -> None:
    text = report(yard, job_id, "html").text
    summary = report(yard, job_id, "json").json()["summary"]
    for label, key in (("files", "files"), ("violations", "violations"), ("failed", "failed")):
        assert f"<dt>{label}</dt><dd>{summary[key]}</dd>" in text
    for code in summary["by_rule"]:
        assert f"<code>{code}</code>" in text
    for name in ("clean.sql", "broken.sql", "binary.sql"):
        assert f'<span class="name">{name}</span>' in text


def test_html_folds_up_what_is_beyond_ten_rules(yard: Yard) -> None:
    text = b"""select A.a,b, c AS x FROM A left join B b2 on b2.a=A.a where a.x = NULL
    and A.y<>1 And b.z!=2 order by a.x, b.y Desc
union
SELECT count(1), count(*),CASE WHEN q then 1 else null end FROM d limit 5"""
    job_id = yard.submit_zip({"many.sql": text})
    yard.work()
    rules = report(yard, job_id, "json").json()["summary"]["by_rule"]
    assert len(rules) > 10
    shown, _, folded = (
        report(yard, job_id, "html")
        .text.partition("<h2>Files")[0]
        .partition(f'<span class="name">{len(rules) - 10} more</span>')
    )
    codes = {code: (f"<code>{code}</code>" in shown) for code in rules}
    assert sum(codes.values()) == 10
    assert all(f"<code>{code}</code>" in folded for code, is_shown in codes.items() if not is_shown)


def test_severities_stand_beside_rules_and_findings(yard: Yard) -> None:
    body = {"name": "reported", "severities": {"LT01": "note"}}
    assert yard.call("POST", "/api/v1/lint/profiles", json=body).status_code == 201
    job_id = yard.submit_zip({"a.sql": b"SELECT a  FROM b\n"}, profile="reported")
    yard.work()
    page = report(yard, job_id, "html").text
    assert '<span class="level note">note</span>' in page
    assert "profile reported" in page
    assert "<dt>notes</dt><dd>1</dd>" in page
    (command,) = report(yard, job_id, "github").text.splitlines()
    assert command.startswith("::notice ")
    (issue,) = report(yard, job_id, "gitlab").json()
    assert issue["severity"] == "info"
    (run,) = report(yard, job_id, "sarif").json()["runs"]
    assert [result["level"] for result in run["results"]] == ["note"]
    levels = {r["id"]: r.get("defaultConfiguration") for r in run["tool"]["driver"]["rules"]}
    assert (levels["LT01"], levels["LT02"]) == ({"level": "note"}, {"level": "warning"})
    assert next(csv.DictReader(io.StringIO(report(yard, job_id, "csv").text)))["level"] == "note"


@pytest.mark.parametrize("form", FORMS)
def test_a_long_report_is_never_in_memory_as_a_whole(yard: Yard, form: str) -> None:
    job_id = yard.submit_zip({"a.sql": b"SELECT a  FROM b\n"})
    yard.work()
    (file,) = yard.files(job_id).values()
    path = yard.storage / file["result_file_path"]
    document = json.loads(path.read_bytes())
    document["violations"] = [document["violations"][0] | {"code": "LT01"}] * 100
    path.write_bytes(json.dumps(document).encode())
    files = 250
    job, (row,) = yard.rows(job_id)
    columns = {column.name for column in LintingTask.__table__.columns} - {"id"}
    like = {name: getattr(row, name) for name in columns}
    more = [like | {"task_id": f"{row.task_id}-{number}"} for number in range(1, files)]
    with yard.worker.databases.sync_transaction("mysql_lint") as session:
        repository.insert_tasks(session, more)
    content = JobContent(job, yard.worker.databases, yard.worker.storage)

    async def size() -> int:
        return sum(
            [len(chunk) async for chunk in encoded(FORMS_OF[ReportFormat(form)].render(content))]
        )

    tracemalloc.start()
    try:
        written = yard.runner.run(size())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert written > files * 5_000
    assert path.stat().st_size * files > 6_000_000
    assert peak < 2_000_000


def test_a_job_that_goes_on_has_no_report_yet(yard: Yard) -> None:
    job = yard.submit(sql_content="SELECT 1\n")
    answer = yard.call("GET", f"/api/v1/jobs/{job}/report")
    assert (answer.status_code, answer.json()["code"]) == (409, "JOB_NOT_FINISHED")


def test_wrong_reports_are_refused(yard: Yard, job_id: str) -> None:
    path = f"/api/v1/jobs/{job_id}/report"
    assert yard.call("GET", path, params={"format": "pdf"}).status_code == 422
    assert yard.call("GET", "/api/v1/jobs/job-unknown/report").status_code == 404
    mine = yard.submit("admin", sql_content="SELECT 1\n")
    assert yard.call("GET", f"/api/v1/jobs/{mine}/report", "operator").status_code == 404


def test_a_result_that_is_gone_costs_only_its_file(yard: Yard) -> None:
    job = yard.submit_zip({"a.sql": b"SELECT a  FROM b\n", "b.sql": b"SELECT c  FROM d\n"})
    yard.work()
    gone: dict[str, Any] = yard.files(job)["a.sql"]
    (yard.storage / gone["result_file_path"]).unlink()
    for form in FORMS:
        assert "no longer on the storage" in report(yard, job, form).text
    files = report(yard, job, "json").json()["files"]
    assert [bool(file["violations"]) for file in files] == [False, True]
    assert json.loads(report(yard, job, "sarif").text)["runs"][0]["results"]
