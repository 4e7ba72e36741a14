"""Streams of runs over a real server; the worker is another process than the API."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from app.config import Settings
from app.config.settings import APPLICATION_BIND
from app.tasks.execution import Executor
from app.tasks.services import open_services
from tests.contract.api.harness import Recorder, build, embedded_settings, make_callers, migrate
from tests.harness import free_port, read_all_told
from tests.integration.api.served import FOLDER, POSTGRES, postgres_settings

pytestmark = pytest.mark.timeout(300)
Event = tuple[str, str, dict[str, Any]]


@dataclass
class Server:
    url: str
    settings: Settings
    tokens: dict[str, str]
    process: subprocess.Popen[bytes]
    log: Path

    def client(self, role: str = "operator") -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.tokens[role]}"}
        return httpx2.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=30)

    def submit(self, task: str, **params: Any) -> str:
        with self.client() as client:
            answer = client.post("/tasks/run", json={"task": task, "params": params})
            assert answer.status_code == 202, answer.text
            return str(answer.json()["task_id"])

    def read(self, run_id: str, after: str | None = None, *, most: int = 10_000) -> list[Event]:
        """Read events until the stream ends; cut the connection behind the `most`-th one."""
        headers = {"Last-Event-ID": after} if after else {}
        events: list[Event] = []
        with (
            self.client() as client,
            client.stream("GET", f"/tasks/{run_id}/stream", headers=headers) as answer,
        ):
            assert answer.status_code == 200
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                elif "event" in fields:
                    events.append((fields["id"], fields["event"], json.loads(fields["data"])))
                    if len(events) == most:
                        break
                if not line:
                    fields = {}
        return events


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("streams")
    environ = {
        "TASKYARD_STREAMS__MAX_OPEN": "4",
        "TASKYARD_STREAMS__MAX_OPEN_PER_CALLER": "3",
        "TASKYARD_STREAMS__HEARTBEAT_SECONDS": "0.3",
    }
    if request.param == "postgresql":
        url = request.getfixturevalue("services").create_database("postgres")
        settings = postgres_settings(folder, url, **environ)
        environ[POSTGRES] = url
    else:
        settings = embedded_settings(folder, **environ)
    assert settings.databases[APPLICATION_BIND].url.get_secret_value().startswith(request.param)
    migrate(settings)
    _, parts = build(settings, Recorder())
    tokens = asyncio.run(make_callers(parts))
    port = free_port()
    log = folder / "server.log"
    command = [sys.executable, "-m", "tests.integration.api.served", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environ, FOLDER: str(folder)}, stderr=output
        )
    try:
        _wait_for(port, process, log)
        yield Server(f"http://127.0.0.1:{port}", settings, tokens, process, log)
    finally:
        process.kill()
        process.wait(20)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            httpx2.get(f"http://127.0.0.1:{port}/livez", timeout=2)
        except httpx2.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"the server does not listen: {log.read_text()}")


@dataclass
class Worker:
    """Executes one run after another until it has ended, on a thread of the test's process."""

    settings: Settings
    run_id: str
    attempts: int = 1

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        services = open_services(self.settings, transport=Recorder())
        with asyncio.Runner() as runner:
            for _ in range(self.attempts):
                Executor(services, worker="test").execute(runner, self.run_id)
            runner.run(services.close())
        services.databases.dispose_sync()


@pytest.mark.parametrize("cuts", [(1, 2), (2, 5), (7, 4)], ids=["early", "middle", "late"])
def test_a_client_that_is_cut_twice_sees_every_event_once_and_in_order(
    server: Server, cuts: tuple[int, int]
) -> None:
    run_id = server.submit("sample.tell_much", steps=12, pause_seconds=0.15)
    whole: list[Event] = []
    reader = threading.Thread(target=lambda: whole.extend(server.read(run_id)))
    reader.start()
    seen: list[Event] = []
    with Worker(server.settings, run_id, attempts=2):
        for most in cuts:
            seen += server.read(run_id, seen[-1][0] if seen else None, most=most)
        seen += server.read(run_id, seen[-1][0])
    reader.join(30)
    ids = [event_id for event_id, _, _ in seen]
    # The reader that was never cut, one that comes afterwards, and the tables say the same.
    assert seen == whole == server.read(run_id)
    assert ids[:-1] == [str(seq) for seq in read_all_told(server.settings, run_id)]
    assert ids[-1] == f"{ids[-2]}-end"
    assert [kind for _, kind, _ in seen].count("end") == 1
    lines = [data["message"] for _, kind, data in seen if kind == "log"]
    assert lines == [f"1:{step}" for step in range(7)] + [f"2:{step}" for step in range(12)]
    moves = [(data["from"], data["to"]) for _, kind, data in seen if kind == "status"]
    assert moves == [
        (None, "PENDING"),
        ("PENDING", "RUNNING"),
        ("RUNNING", "RETRYING"),
        ("RETRYING", "RUNNING"),
        ("RUNNING", "SUCCEEDED"),
    ]
    reports = [data for _, kind, data in seen if kind == "progress"]
    assert reports[-1] | {"at": None} == {
        "at": None, "attempt": 2, "current": 12, "total": 12, "message": None,
    }  # fmt: skip
    assert seen[-1][2]["status"] == "SUCCEEDED"


def test_lines_and_progress_are_seen_while_the_run_is_under_way(server: Server) -> None:
    run_id = server.submit("sample.tell_much", steps=8, pause_seconds=0.3)
    with Worker(server.settings, run_id, attempts=2):
        # Cut behind a line and a report: the run goes on after that.
        kinds = {kind for _, kind, _ in server.read(run_id, most=4)}
        with server.client() as client:
            run = client.get(f"/tasks/{run_id}").json()
        assert run["status"] in {"RUNNING", "RETRYING"}
        assert {"log", "progress"} <= kinds


def test_who_has_seen_the_end_is_told_to_stay_away(server: Server) -> None:
    run_id = server.submit("sample.add_numbers", a=1)
    with Worker(server.settings, run_id):
        pass
    events = server.read(run_id)
    end = events[-1][0]
    with server.client() as client:
        path = f"/tasks/{run_id}/stream"
        assert client.get(path, headers={"Last-Event-ID": end}).status_code == 204
        # The last transition alone is not the end.
        assert [kind for _, kind, _ in server.read(run_id, events[-2][0])] == ["end"]
        for wrong in ("x", "-1", "1-", "99999", "1" * 30, "1-END"):
            answer = client.get(path, headers={"Last-Event-ID": wrong})
            assert answer.status_code == 422, wrong
            assert answer.json()["errors"][0]["loc"] == ["header", "Last-Event-ID"]
        answer = client.get(path)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
    with server.client("foreigner") as client:
        assert client.get(path).status_code == 404


def test_a_head_of_an_endless_stream_ends(server: Server) -> None:
    run_id = server.submit("sample.add_numbers", a=1)
    with server.client() as client:
        assert client.head(f"/tasks/{run_id}/stream").status_code == 200


def test_streams_are_bounded_per_caller_and_in_all_and_seats_come_back(server: Server) -> None:
    run_id = server.submit("sample.add_numbers", a=1)
    path = f"/tasks/{run_id}/stream"
    with server.client() as client, server.client("admin") as other:
        mine = [client.stream("GET", path) for _ in range(3)]
        for one in mine:
            assert one.__enter__().status_code == 200
        refused = client.get(path)
        assert (refused.status_code, refused.json()["code"]) == (429, "TOO_MANY_STREAMS")
        assert refused.headers["retry-after"] == "5"
        assert refused.headers["ratelimit"] == '"streams";r=0;t=5'
        assert refused.headers["ratelimit-policy"] == '"streams";q=3'
        with other.stream("GET", path) as fourth:
            assert fourth.status_code == 200
            full = other.get(path)
            assert (full.status_code, full.json()["code"]) == (503, "STREAMS_FULL")
            assert full.headers["retry-after"] == "5"
        for one in mine:
            one.__exit__(None, None, None)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with server.client() as client, client.stream("GET", path) as again:
            if again.status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the seats did not come back")


def test_a_silent_stream_beats_and_ends_with_the_server(server: Server) -> None:
    """The last of the module: it stops the server."""
    run_id = server.submit("sample.add_numbers", a=1)
    with server.client() as client, client.stream("GET", f"/tasks/{run_id}/stream") as answer:
        lines = answer.iter_lines()
        assert any(line == ": still here" for line in lines)
        server.process.send_signal(signal.SIGTERM)
        # It ends as a whole answer does: a stream that is cut off raises here.
        assert ": the server stops; resume" in list(lines)
    # Long before the grace of 60 seconds.
    assert server.process.wait(30) in {0, -signal.SIGTERM}
    assert b"Traceback" not in server.log.read_bytes()
