"""Where the sides of a comparison run: their databases and names, their processes, their ends."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import make_url

from bench.peers import adapter
from bench.peers.tally import FOLDER, Tally
from tests.services import Services

ROOT: Final = Path(__file__).parents[1]
PEERS_PYTHON: Final = Path(
    os.environ.get("TASKYARD_BENCH_VENV", ROOT / ".venv-bench"), "bin/python"
)
PASSWORD: Final = "correct horse battery staple"  # noqa: S105 - of scratch databases
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
# Databases of Redis, one for each peer that keeps something there.
_REDIS_DATABASES: Final = {"celery_redis": 7, "streaq_redis": 8}


@dataclass(frozen=True)
class Side:
    """One of those that are compared: its name in the tables and the module of its adapter."""

    name: str
    module: str
    profile: str = "default"

    @property
    def is_ours(self) -> bool:
        return not self.module.startswith("bench.peers.")

    @property
    def python(self) -> str:
        return sys.executable if self.is_ours else str(PEERS_PYTHON)


OURS: Final = Side("taskyard", "bench.product")
FAST: Final = Side("taskyard, fast", "bench.product", "fast")
CELERY_REDIS: Final = Side("celery + redis", "bench.peers.celery_redis")
CELERY_POSTGRES: Final = Side("celery + postgres", "bench.peers.celery_postgres")
TASKIQ: Final = Side("taskiq", "bench.peers.taskiq_rabbit")
DRAMATIQ: Final = Side("dramatiq", "bench.peers.dramatiq_rabbit")
PROCRASTINATE: Final = Side("procrastinate", "bench.peers.procrastinate_postgres")
STREAQ: Final = Side("streaq", "bench.peers.streaq_redis")


class BenchError(Exception):
    """A side could not do what it was asked for; the text says what, with the end of its log."""


@dataclass
class Yard:
    """Scratch databases and names on the services, and a folder for logs."""

    services: Services
    folder: Path
    _urls: dict[str, str] = field(default_factory=dict)
    _logs: int = 0

    def environment(self, side: Side, tally: Path | None = None) -> dict[str, str]:
        """Return the variables of a process of the side."""
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith("TASKYARD_")
        }
        place = {"PYTHONPATH": str(ROOT)}  # Not every tool looks where it was started.
        if tally:
            place[FOLDER] = str(tally)
        return clean | place | (self._ours() if side.is_ours else self._peer(side))

    def database(self, name: str) -> str:
        """Return the URL of a database of its own, `postgresql+asyncpg://…`."""
        if name not in self._urls:
            self._urls[name] = self.services.create_database("postgres")
        return self._urls[name]

    def _ours(self) -> dict[str, str]:
        return {
            **self.services.environment(),
            "TASKYARD_DATABASES__POSTGRES_MAIN__URL": self.database("taskyard"),
            "TASKYARD_DATABASES__MYSQL_LINT__URL": f"sqlite+aiosqlite:///{self.folder}/lint.db",
            "TASKYARD_STORAGE__URL": f"file://{self.folder}/files",
            "TASKYARD_DATA_DIR": str(self.folder / "state"),
            "TASKYARD_AUTH__JWT__SECRET": "a secret of the benchmark, long enough for HMAC",
            "TASKYARD_AUTH__BOOTSTRAP_ADMIN": f"admin:{PASSWORD}",
            "TASKYARD_AUTH__ACCESS_TOKEN_SECONDS": "86400",
            "TASKYARD_PLUGINS": '["bench.tasks"]',
            "TASKYARD_LOGGING__LEVEL": "WARNING",
            "TASKYARD_CELERY__RESERVED_PROCESSES": "0",
            "TASKYARD_CELERY__PREFETCH_MULTIPLIER": str(adapter.PREFETCH // adapter.PROCESSES),
            # A child that is replaced in the middle of a drain would be measured as well.
            "TASKYARD_CELERY__MAX_TASKS_PER_CHILD": "1000000",
        }

    def _peer(self, side: Side) -> dict[str, str]:
        peer = side.module.rpartition(".")[2]
        postgres = make_url(self.database(peer)).set(drivername="postgresql")
        redis = make_url(self.services.redis_url).set(database=str(_REDIS_DATABASES.get(peer, 9)))
        # The vhost "/" in the form that every library understands.
        amqp = self.services.amqp_url
        return {
            adapter.AMQP_URL: f"{amqp[:-1]}%2F" if amqp.endswith("//") else amqp,
            adapter.POSTGRES_URL: postgres.render_as_string(hide_password=False),
            adapter.REDIS_URL: redis.render_as_string(hide_password=False),
            adapter.PREFIX: self.services.queue_prefix,
        }

    @contextlib.contextmanager
    def control(self, side: Side) -> Iterator["Control"]:
        """Yield the side's adapter, prepared; what it made is removed at the end."""
        with self.process(
            side, [side.python, "-m", "bench.peers", side.module, "serve"], pipes=True
        ) as started:
            control = Control(side, started)
            control.call("prepare")
            try:
                control.call("clear")
                yield control
            finally:
                with contextlib.suppress(BenchError):
                    control.call("remove")

    @contextlib.contextmanager
    def worker(self, side: Side) -> Iterator[tuple["Process", Tally]]:
        """Run the side's worker with a tally of its own."""
        self._logs += 1
        tally = Tally(self.folder / f"tally-{self._logs}")
        command = [side.python, "-m", "bench.peers", side.module, "worker", side.profile]
        with self.process(side, command, tally=tally.folder) as process:
            yield process, tally
        shutil.rmtree(tally.folder)

    @contextlib.contextmanager
    def process(
        self,
        side: Side,
        command: Sequence[str],
        *,
        tally: Path | None = None,
        pipes: bool = False,
    ) -> Iterator["Process"]:
        """Run a process of the side, in a session of its own, to the end of the block."""
        self._logs += 1
        log = self.folder / f"{self._logs:03}-{side.module.rpartition('.')[2]}.log"
        pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
        with log.open("wb") as errors:
            popen = subprocess.Popen(
                list(command),
                env=self.environment(side, tally),
                cwd=ROOT,
                stdin=pipe,
                stdout=pipe if pipes else errors,
                stderr=errors,
                start_new_session=True,
            )
        started = Process(popen, log)
        try:
            yield started
        finally:
            started.stop()


@dataclass(frozen=True)
class Process:
    """A started process and its log."""

    popen: "subprocess.Popen[bytes]"
    log: Path

    def check(self) -> None:
        """Raise BenchError when the process has ended."""
        if self.popen.poll() is not None:
            raise BenchError(f"{self.popen.args!r} has ended.\n{self.tail()}")

    def tail(self) -> str:
        """Return the last lines of the log."""
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """End the process and all that it started."""
        if self.popen.stdin is not None:
            self.popen.stdin.close()
        else:
            self.popen.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


@dataclass(frozen=True)
class Control:
    """An adapter that waits for calls."""

    side: Side
    process: Process

    def call(self, name: str, **arguments: Any) -> Any:
        """Return what the adapter's call returned; BenchError when it failed."""
        popen = self.process.popen
        assert popen.stdin is not None and popen.stdout is not None  # noqa: S101, PT018 - pipes
        with contextlib.suppress(BrokenPipeError):
            popen.stdin.write(json.dumps({"call": name, **arguments}).encode() + b"\n")
            popen.stdin.flush()
        line = popen.stdout.readline()
        answer = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            told = f"{self.side.name}: {name}: {answer['error']}"
            raise BenchError(f"{told}\n{self.process.tail()}")
        return answer["value"]


@contextlib.contextmanager
def open_yard() -> Iterator[Yard]:
    """Yield a yard; at the end nothing of it is left on the services."""
    services = Services()
    try:
        with tempfile.TemporaryDirectory(prefix="taskyard-bench-") as name:
            yield Yard(services, Path(name))
    finally:
        services.close()


def free_port() -> int:
    """Return a port of the loopback address on which nobody listens now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def wait_for(url: str, process: Process) -> None:
    """Wait until the URL is answered with 200."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        process.check()
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(url, timeout=5),  # noqa: S310 - http
        ):
            return
        time.sleep(0.1)
    raise BenchError(f"{url} is not ready\n{process.tail()}")
