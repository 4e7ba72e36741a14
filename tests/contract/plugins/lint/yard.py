"""The application with the lint plugin, its worker driven by hand, on SQLite or MariaDB."""

import asyncio
import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.config import Settings, load_settings
from app.plugins.lint import repository
from app.plugins.lint.models import LintingJob, LintingTask
from app.tasks.execution import Executor
from app.tasks.services import Services
from tests.contract.api.harness import Recorder

BIND = "mysql_lint"


@dataclass
class Yard:
    """Callers, a client, and a worker that works when it is told to."""

    settings: Settings
    client: TestClient
    transport: Recorder
    tokens: dict[str, str]
    storage: Path
    core: Services
    worker: Services
    runner: asyncio.Runner
    seen: set[str] = field(default_factory=set)

    def call(self, method: str, path: str, role: str = "operator", **options: Any) -> Response:
        headers = {"Authorization": f"Bearer {self.tokens[role]}", **options.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **options)

    def submit(self, role: str = "operator", **body: Any) -> str:
        answer = self.call("POST", "/api/v1/jobs", role, json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    def upload(self, name: str, data: bytes, role: str = "operator", **more: Any) -> Response:
        mime = more.pop("mime", "application/octet-stream")
        return self.call(
            "POST", "/api/v1/jobs/upload", role, files={"file": (name, data, mime)}, data=more
        )

    def submit_zip(self, members: dict[str, bytes], **body: Any) -> str:
        name = f"archives/{len(list(self.storage.rglob('*.zip')))}.zip"
        (self.storage / "archives").mkdir(parents=True, exist_ok=True)
        (self.storage / name).write_bytes(packed(members))
        return self.submit(zip_file_path=name, **body)

    def work(self, *, times: int = 1) -> None:
        """Deliver every message that was sent and not delivered yet, and those of children."""
        while True:
            self._flush()
            sent = [*self.transport.sent, *self.worker_transport.sent]
            fresh = [wakeup.run_id for wakeup in sent if wakeup.run_id not in self.seen]
            if not fresh:
                return
            for run_id in dict.fromkeys(fresh):
                self.seen.add(run_id)
                for _ in range(times):
                    self.deliver(run_id)

    def deliver(self, run_id: str) -> None:
        Executor(self.worker, worker="test").execute(self.runner, run_id)

    def _flush(self) -> None:
        assert self.client.portal is not None
        self.client.portal.call(self.core.outbox.close)

    @property
    def worker_transport(self) -> Recorder:
        transport = self.worker.transport
        assert isinstance(transport, Recorder)
        return transport

    def job(self, job_id: str, role: str = "operator", **query: int) -> dict[str, Any]:
        answer = self.call("GET", f"/api/v1/jobs/{job_id}", role, params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def files(self, job_id: str) -> dict[str, dict[str, Any]]:
        items = self.job(job_id, size=500)["sub_tasks"]["items"]
        return {item["file_name"]: item for item in items}

    def run_status(self, task_id: str) -> dict[str, Any]:
        run: dict[str, Any] = self.call("GET", f"/api/v1/tasks/{task_id}").json()
        return run

    def rows(self, job_id: str) -> tuple[LintingJob, list[LintingTask]]:
        with self.worker.databases.sync_transaction(BIND) as session:
            job = repository.find_job(session, job_id)
            assert job is not None
            return job, list(repository.tasks_of(session, job_id))


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def settings_for(folder: Path, lint_url: str | None, *, cache_seconds: int = 0) -> Settings:
    environ = {
        # Most tests lint the same texts and want each of them linted.
        "TASKYARD_PLUGIN_SETTINGS__LINT__CACHE_SECONDS": str(cache_seconds),
        "TASKYARD_PLUGINS": '["lint"]',
        "TASKYARD_SECRETS_DIR": str(folder),
        "TASKYARD_PLUGIN_SETTINGS__LINT__TEMPLATERS": (
            '{"dbt": {"kind": "jinja", "context": {"schema": "prod"}}}'
        ),
        "TASKYARD_PLUGIN_SETTINGS__LINT__SANDBOX_PROCESSES": "1",
        "TASKYARD_PLUGIN_SETTINGS__LINT__DEADLINE_BASE_SECONDS": "5",
        "TASKYARD_PLUGIN_SETTINGS__LINT__DEADLINE_MAX_SECONDS": "5",
        "TASKYARD_PLUGIN_SETTINGS__LINT__FIX_DEADLINE_FACTOR": "1",
    }
    if lint_url is not None:
        environ["TASKYARD_DATABASES__MYSQL_LINT__URL"] = lint_url
    return load_settings(data_dir=folder, environ=environ)


def lint_database(kind: str, request: pytest.FixtureRequest) -> str | None:
    if kind == "sqlite":
        return None
    url: str = request.getfixturevalue("services").create_database("mysql")
    return url
