"""The client's calls for lint jobs."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from app.cli.client import Client


class LintClient(Client):
    """Speaks to one service about lint jobs."""

    def upload(self, name: str, data: bytes, options: Mapping[str, str]) -> str:
        """Submit a file or an archive; return the job's id."""
        upload = {"file": (name, data, "application/octet-stream")}
        accepted = self._send("POST", "jobs/upload", files=upload, data=dict(options))
        return str(accepted["job_id"])

    def job(self, job_id: str) -> tuple[str, int, int]:
        """Return a job's status, how many of its files have ended, and how many there are."""
        job = self._get(f"jobs/{quote(job_id, safe='')}", [("size", "1")])
        figures: dict[str, Any] = job["figures"]
        return str(job["job_status"]), figures["ended"], figures["files"]

    def report(self, job_id: str, form: str) -> str:
        """Return the report of an ended job in the form, as text."""
        path = f"jobs/{quote(job_id, safe='')}/report"
        headers = {"Accept": "*/*"}
        return self._exchange("GET", path, params=[("format", form)], headers=headers).text
