"""The whole application on SQLite and in-memory parts, with a caller for every role."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response

from app.api.application import create_app
from app.api.services import ApiServices
from app.auth.identity import open_identity, open_tokens
from app.config.loading import load_settings
from app.config.settings import Settings
from app.db import Databases
from app.db.migrations import upgrade
from app.tasks.execution import Executor
from app.tasks.services import load_code, open_services
from app.tasks.transport import QueueLevel, Wakeup

SAMPLE = "tests.contract.api.sample"
ROLES = ("viewer", "operator", "admin")
# Longer than the slowest run of all tests.
TOKEN_SECONDS = 86_400


class Recorder:
    """A transport that confirms everything and keeps what it was given."""

    def __init__(self) -> None:
        self.sent: list[Wakeup] = []

    async def send(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        self.sent.extend(wakeups)
        return frozenset(wakeup.run_id for wakeup in wakeups)

    async def send_dead_letter(self, wakeup: Wakeup, error: Mapping[str, str]) -> bool:
        return True

    async def backlog(self, queues: Sequence[str]) -> Mapping[str, int]:
        return dict.fromkeys(queues, 0)

    async def levels(self, queues: Sequence[str]) -> Mapping[str, QueueLevel]:
        return dict.fromkeys(queues, QueueLevel(ready=0, consumers=1))

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


@dataclass
class Api:
    """The running application; `as_role` and the shortcuts call it as somebody."""

    app: FastAPI
    client: TestClient
    settings: Settings
    transport: Recorder
    tokens: dict[str, str]

    def call(
        self, method: str, path: str, role: str | None = "operator", **options: Any
    ) -> Response:
        headers = dict(options.pop("headers", {}))
        if role is not None:
            headers.setdefault("Authorization", f"Bearer {self.tokens[role]}")
        return self.client.request(method, path, headers=headers, **options)

    def get(self, path: str, role: str | None = "operator", **options: Any) -> Response:
        return self.call("GET", path, role, **options)

    def post(self, path: str, role: str | None = "operator", **options: Any) -> Response:
        return self.call("POST", path, role, **options)

    def run(self, task: str, params: dict[str, Any] | None = None, **body: Any) -> str:
        """Submit a run and return its id."""
        answer = self.post("/api/v1/tasks/run", json={"task": task, "params": params or {}, **body})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task_id"])

    def work(self, run_id: str) -> None:
        """Do what a worker does with the run's message, in a process of its own as it were."""
        work(self.settings, run_id)


def work(settings: Settings, run_id: str) -> None:
    services = open_services(settings, transport=Recorder())
    with asyncio.Runner() as runner:
        Executor(services, worker="test").execute(runner, run_id)
        runner.run(services.close())


def embedded_settings(folder: Path, **environ: str) -> Settings:
    plugins = f'["lint", "{SAMPLE}"]'
    own = {"TASKYARD_PLUGINS": plugins, "TASKYARD_SECRETS_DIR": str(folder / "none")}
    return load_settings(data_dir=folder, embedded=True, environ={**own, **environ})


def migrate(settings: Settings) -> None:
    plugins, _ = load_code(settings)
    databases = Databases(settings.databases)
    upgrade(databases, plugins)
    databases.dispose_sync()


def build(settings: Settings, transport: Recorder) -> tuple[FastAPI, ApiServices]:
    core = open_services(settings, transport=transport)
    tokens = open_tokens(settings)
    identity = open_identity(settings, core.databases, tokens)
    services = ApiServices(core=core, identity=identity, tokens=tokens)
    return create_app(services), services


async def make_callers(services: ApiServices) -> dict[str, str]:
    """Return tokens: one user of each role, one without a scope of ours, one of another tenant."""
    tokens = {}
    for name in ROLES:
        await services.identity.create_user(name, f"password of {name}", name)  # type: ignore[arg-type]  # a role
        tokens[name] = await services.identity.issue_for(name, expires_in=TOKEN_SECONDS)
    await services.identity.create_user(
        "foreigner", "password of foreigner", "operator", tenant="elsewhere"
    )
    await services.identity.create_user("nobody", "password of nobody", scopes=["other:thing"])
    tokens["nobody"] = await services.identity.issue_for("nobody", ["other:thing"], TOKEN_SECONDS)
    tokens["foreigner"] = await services.identity.issue_for("foreigner", expires_in=TOKEN_SECONDS)
    await services.core.databases.dispose()
    return tokens
