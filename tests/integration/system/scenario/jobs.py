"""Lint jobs beyond the main job, at both of their addresses."""

from typing import Any

import httpx2

from tests.integration.system.main_job import follow, submit
from tests.integration.system.recording import seen


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
    ]


def _count(answer: httpx2.Response) -> tuple[int, int]:
    return answer.status_code, len(answer.json()["items"])
