"""Lint jobs beyond the main job, at both of their addresses."""

import time
from typing import Any

import httpx2

from tests.integration.system.main_job import WAIT_SECONDS, archive, follow, submit
from tests.integration.system.recording import seen
from tests.integration.system.scenario.runs import events


def jobs(client: httpx2.Client, root: str) -> list[Any]:
    """List jobs, and read one as the older clients do: without the prefix."""
    job_id = submit(client, {"sql_content": "SELECT a  FROM b\n"})
    follow(client, job_id)
    listed = client.get("/jobs", params={"limit": 1})
    return [
        (listed.status_code, [job["job_id"] == job_id for job in listed.json()["items"]]),
        seen(client.get(f"{root}/jobs/{job_id}")),
        seen(client.get("/jobs", params={"status": "NOT_A_STATUS"}))[0],
        seen(client.post(f"/jobs/{job_id}/cancel")),
        [
            (report.status_code, report.headers["content-type"], "LT01" in report.text)
            for form in ("json", "sarif", "csv", "html", "github", "gitlab")
            for report in [client.get(f"/jobs/{job_id}/report", params={"format": form})]
        ],
        _count(client.get("/lint/dialects")),
        _count(client.get("/lint/rules")),
        [(event["event"], event["id"]) for event in events(client, f"/jobs/{job_id}/stream")],
        client.get(f"/jobs/{job_id}/stream", headers={"Last-Event-ID": "end"}).status_code,
    ]


def older(client: httpx2.Client, root: str) -> list[Any]:
    """Do a job as the older clients do, at the addresses without the prefix."""
    made = client.post(f"{root}/jobs", json={"sql_content": "SELECT a  FROM b\n"})
    path = f"{root}/jobs/{made.json()['job_id']}"
    job = follow(client, made.json()["job_id"])
    (item,) = job["sub_tasks"]["items"]
    upload = {"file": ("query.sql", b"SELECT 1\n", "application/sql")}
    uploaded = client.post(f"{root}/jobs/upload", files=upload)
    follow(client, uploaded.json()["job_id"])
    return [
        (made.status_code, sorted(made.json())),
        seen(client.get(path)),
        seen(client.get(f"{path}/report"))[0],
        (result := client.get(f"{root}/tasks/{item['task_id']}/result")).status_code,
        [violation["code"] for violation in result.json()["violations"]],
        (uploaded.status_code, sorted(uploaded.json())),
        client.get(f"{root}/jobs", params={"limit": 1}).status_code,
        seen(client.post(f"{root}/jobs", json={})),
        seen(client.get(f"{root}/jobs/job-0")),
    ]


def profiles(client: httpx2.Client) -> list[Any]:
    """Store a profile, lint with it, change and remove it."""
    wish = {"name": "strict", "dialect": "mysql", "severities": {"LT01": "error"}}
    made = client.post("/lint/profiles", json=wish)
    path = "/lint/profiles/strict"
    job = follow(client, submit(client, {"sql_content": "SELECT a  FROM b\n", "profile": "strict"}))
    wish.pop("name")
    return [
        seen(made),
        seen(client.post("/lint/profiles", json={**wish, "name": "strict"})),
        seen(client.get(path)),
        seen(client.get("/lint/profiles", params={"limit": 1})),
        job["job_status"],
        seen(client.put(path, json={**wish, "version": made.json()["version"]})),
        seen(client.put(path, json={**wish, "version": 99})),
        seen(client.delete(path)),
        seen(client.get(path)),
    ]


def cancelled(client: httpx2.Client, root: str) -> list[Any]:
    """Cancel the jobs of archives that nobody has opened yet, at both addresses: their queue is
    paused.
    """
    client.post("/queues/lint_batch/pause")
    deadline = time.monotonic() + WAIT_SECONDS
    while _consumers(client, "lint_batch") and time.monotonic() < deadline:
        time.sleep(0.2)
    told = [_cancelled_at(client, base) for base in ("", root)]
    client.post("/queues/lint_batch/resume")
    return told


def _cancelled_at(client: httpx2.Client, base: str) -> list[Any]:
    upload = {"file": ("x.zip", archive(), "application/zip")}
    job_id = client.post(f"{base}/jobs/upload", files=upload).json()["job_id"]
    path = f"{base}/jobs/{job_id}"
    return [seen(client.post(f"{path}/cancel")), seen(client.get(path))]


def _consumers(client: httpx2.Client, queue: str) -> int:
    items = client.get("/queues").json()["items"]
    return int(next(one["consumers"] for one in items if one["name"] == queue))


def _count(answer: httpx2.Response) -> tuple[int, int]:
    return answer.status_code, len(answer.json()["items"])
