"""The product as an operator starts it: processes, addresses and an HTTP client."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.services import Services

TASKYARD = str(Path(sys.executable).with_name("taskyard"))
PASSWORD = "correct horse battery staple"
START_SECONDS = 180.0
# A plugin of the reader's own, outside of the package: some lines and a name in the settings.
PLUGIN = '''\
from dataclasses import dataclass

from app import Plugin, TaskContext, register_task

PLUGIN = Plugin(name="text", version="1.0.0")


@dataclass
class WordCount:
    word: str
    count: int


@register_task("text.count_words", queue="default", max_attempts=5, timeout_seconds=30)
async def count_words(ctx: TaskContext, text: str, top: int = 10) -> list[WordCount]:
    """Count the words of a text."""
    words = text.split()
    counts = {word: words.count(word) for word in words}
    ranked = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return [WordCount(word, count) for word, count in ranked[:top]]


@register_task("text.succeed_at", max_attempts=3, backoff_seconds=0.2)
def succeed_at(ctx: TaskContext, attempt: int) -> int:
    """Fail before the given attempt."""
    if ctx.attempt < attempt:
        raise ValueError("not yet")
    return ctx.attempt


@register_task("text.tell_much", max_attempts=1)
async def tell_much(ctx: TaskContext, text: str) -> int:
    """Write a line, report progress, and let a child count the words."""
    ctx.log.info("counting", letters=len(text))
    await ctx.progress(1, 2, "half")
    ctx.submit("text.count_words", {"text": text})
    await ctx.progress(2, 2, "done")
    return len(text)
'''


@dataclass(frozen=True)
class System:
    """A running installation: where its API is, and the environment of its processes."""

    url: str
    environment: Mapping[str, str]

    def client(self) -> httpx2.Client:
        """Return a client that is signed in as the first administrator."""
        client = httpx2.Client(base_url=f"{self.url}/api/v1", timeout=60, trust_env=False)
        form = {"grant_type": "password", "username": "admin", "password": PASSWORD}
        answer = client.post("/auth/token", data=form)
        assert answer.status_code == 200, answer.text
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client


@contextmanager
def real_system(
    folder: Path, services: Services, settings: Mapping[str, str] | None = None
) -> Iterator[System]:
    """Run `taskyard api`, `worker` and `beat` as three processes on the real services."""
    environment = _environment(folder) | {
        **services.environment(),
        "TASKYARD_DATABASES__POSTGRES_MAIN__URL": services.create_database("postgres"),
        "TASKYARD_DATABASES__MYSQL_LINT__URL": services.create_database("mysql"),
        "TASKYARD_STORAGE__URL": f"file://{folder}/files",
        "TASKYARD_AUTH__JWT__SECRET": "a secret of the tests, long enough for HMAC",
        **(settings or {}),
    }
    taskyard(environment, "db", "upgrade")
    port = _free_port()
    commands = [["api", "--port", str(port)], ["worker", "--concurrency", "2"], ["beat"]]
    with _processes(folder, environment, commands):
        yield _ready(System(f"http://127.0.0.1:{port}", environment))


@contextmanager
def dev_system(folder: Path) -> Iterator[System]:
    """Run `taskyard dev`: everything in one process on embedded parts."""
    environment = _environment(folder)
    port = _free_port()
    data = str(folder / "data")
    command = ["dev", "--port", str(port), "--data-dir", data, "--no-browser"]
    with _processes(folder, environment, [command]):
        yield _ready(System(f"http://127.0.0.1:{port}", environment))


def taskyard(environment: Mapping[str, str], *arguments: str) -> str:
    """Run one command to its end; return what it prints."""
    command = [TASKYARD, *arguments]
    done = subprocess.run(
        command, env=dict(environment), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment(folder: Path) -> dict[str, str]:
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "word_tools.py").write_text(PLUGIN)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TASKYARD_")}
    return clean | {
        "PYTHONPATH": os.pathsep.join([str(plugins), os.environ.get("PYTHONPATH", "")]).strip(":"),
        "TASKYARD_PLUGINS": '["archive", "lint", "word_tools"]',
        "TASKYARD_AUTH__BOOTSTRAP_ADMIN": f"admin:{PASSWORD}",
        "TASKYARD_DATA_DIR": str(folder / "state"),
    }


@contextmanager
def _processes(
    folder: Path, environment: Mapping[str, str], commands: Sequence[Sequence[str]]
) -> Iterator[None]:
    started = []
    try:
        for command in commands:
            log = (folder / f"{command[0]}.log").open("wb")
            started.append(
                subprocess.Popen(
                    [TASKYARD, *command],
                    env=dict(environment),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                )
            )
            log.close()
        yield
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in reversed(started):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(system: System) -> System:
    """Wait until the API says that it is ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx2.get(f"{system.url}/readyz", trust_env=False, timeout=5).status_code == 200:
                return system
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{system.url} is not ready after {START_SECONDS} seconds")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
