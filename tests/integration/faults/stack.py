"""The product's own processes on the kit's servers: API, workers and beats, started as users do."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import amqp
import httpx2 as httpx
import psycopg

from app.celery_worker import connections, messages
from app.celery_worker.topology import Topology
from app.config import Settings, load_settings
from tests.integration.faults import fault_tasks, processes
from tests.integration.faults.nodes import Kit, Postgres, free_port
from tests.integration.faults.processes import wait_until

ROOT: Final = Path(__file__).parents[3]
PLUGIN: Final = "tests.integration.faults.fault_tasks"
PASSWORD: Final = "correct-horse-battery"
_OTHER_DATABASE: Final = "TASKYARD_DATABASES__MYSQL_LINT__URL"
ENDED: Final = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")
# The outcome of a run that nothing has happened to.
UNHARMED: Final = ("SUCCEEDED", 1)

# Short times for tests: what waits 20 seconds in a deployment waits 3 here.
QUICK: Final = {
    "TASKYARD_CELERY__LEASE_SECONDS": "3",
    "TASKYARD_CELERY__HEARTBEAT_SECONDS": "0.7",
    "TASKYARD_CELERY__SWEEP_INTERVAL_SECONDS": "0.5",
    "TASKYARD_CELERY__UNPUBLISHED_AFTER_SECONDS": "1",
    "TASKYARD_CELERY__OVERDUE_AFTER_SECONDS": "4",
}


class Program:
    """One process of the product, its log, and its children."""

    def __init__(
        self, name: str, command: Sequence[str], environ: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environ = dict(environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._told_before = 0
        self.variables: dict[str, str] = {}

    def start(self, **more: str) -> None:
        """Start it (again); `more` are variables for this life only."""
        self._told_before = self.log.stat().st_size if self.log.exists() else 0
        self.variables = more
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.log.parent,
                env={**self._environ, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process.pid

    @property
    def children(self) -> list[int]:
        """Return the pids of its children, the oldest first."""
        return processes.descendants(self.pid)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    def kill(self) -> None:
        """`kill -9` of the main process; its children are on their own."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """Ask it to end, as a deployment does."""
        if self.is_running:
            processes.send([self.pid], signal.SIGTERM)

    def wait(self, seconds: float = processes.PATIENCE_SECONDS) -> int:
        """Return the exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def freeze(self) -> None:
        """Stop the clock of the process and of its children."""
        processes.send([self.pid, *self.children], signal.SIGSTOP)

    def thaw(self) -> None:
        processes.send([self.pid, *self.children], signal.SIGCONT)

    def restart(self, **more: str) -> None:
        """End it, whatever it is at, and start it with these variables."""
        self.end()
        self.start(**more)

    def end(self) -> None:
        """Kill it with its children, whatever state they are in."""
        if self._process is not None and self._process.poll() is None:
            pids = [self.pid, *self.children]
            processes.send(pids, signal.SIGKILL)
            self._process.wait()

    @property
    def told(self) -> str:
        """What it has written to its log in its present life."""
        return self.log.read_bytes()[self._told_before :].decode(errors="replace")

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@dataclass(frozen=True)
class _Prepared:
    """A database with everything that a stack needs before it starts, and its administrator's
    token.
    """

    database: str
    token: str


# A copy takes no time, the commands that make the first one many seconds on a busy machine.
_PREPARED: Final[WeakKeyDictionary[Postgres, dict[str, _Prepared]]] = WeakKeyDictionary()


def _kind_of(settings: Mapping[str, str]) -> str:
    """Return what the tables depend on."""
    return json.dumps([settings.get("TASKYARD_PLUGINS"), settings.get(_OTHER_DATABASE)])


class Stack:
    """One installation: its settings, its processes, and what a client and a database see of it."""

    def __init__(
        self,
        kit: Kit,
        postgres: Postgres,
        *,
        broker_url: str,
        database_port: int | None = None,
        settings: Mapping[str, str] = QUICK,
    ) -> None:
        self.kit = kit
        self.name = f"faults-{secrets.token_hex(3)}"
        self.folder = kit.folder / self.name
        self.folder.mkdir()
        self.postgres = postgres
        self.starts_file = self.folder / "starts"
        self.starts_file.touch()
        self.port = free_port()
        prepared = _PREPARED.setdefault(postgres, {}).get(_kind_of(settings))
        url = postgres.create_database(
            self.name, database_port, prepared.database if prepared else "template1"
        )
        self.environ = {
            **{key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ},
            **kit.environment,
            "PYTHONPATH": str(ROOT),
            fault_tasks.STARTS_FILE: str(self.starts_file),
            "TASKYARD_DATA_DIR": str(self.folder),
            "TASKYARD_DATABASES__POSTGRES_MAIN__URL": url,
            "TASKYARD_CELERY__BROKER_URL": broker_url,
            "TASKYARD_CELERY__NAMESPACE": self.name,
            "TASKYARD_CELERY__QUEUE_PREFIX": f"{self.name}.",
            "TASKYARD_STORAGE__URL": f"file://{self.folder}/files",
            "TASKYARD_AUTH__JWT__SECRET": kit.jwt_secret,
            "TASKYARD_LOGGING__FORMAT": "json",
            # What a native library does wrong shows in the log, with the stacks of all threads.
            "PYTHONFAULTHANDLER": "1",
            "TASKYARD_PLUGINS": json.dumps([PLUGIN]),
            **settings,
        }
        self.programs: list[Program] = []
        self._connection: psycopg.Connection | None = None
        self.api = self._program("api", ["api", "--port", str(self.port)])
        self.workers: list[Program] = []
        self.beats: list[Program] = []
        if prepared is None:
            prepared = _PREPARED[postgres][_kind_of(settings)] = self._prepare()
        self.headers = {"Authorization": f"Bearer {prepared.token}"}

    def _prepare(self) -> "_Prepared":
        """Make the tables, an administrator and a token, and keep them for the next stacks."""
        self.run("db", "upgrade")
        self.sql(fault_tasks.EFFECTS_TABLE)
        self.run("users", "create", "admin", "--role", "admin", "--password-stdin", told=PASSWORD)
        token = self.run("token", "--expires-in", "86400").strip()
        self._disconnect()
        template = f"{self.name}-template"
        self.postgres.create_database(template, template=self.name)
        return _Prepared(template, token)

    @property
    def product_settings(self) -> Settings:
        environ = {
            name: value for name, value in self.environ.items() if "TASKYARD_TEST" not in name
        }
        return load_settings(data_dir=self.folder, environ=environ)

    @property
    def topology(self) -> Topology:
        return Topology(self.name, f"{self.name}.", 20)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *arguments: str, told: str = "") -> str:
        """Run one command of the product on the host; return what it prints."""
        ended = subprocess.run(
            [_taskyard(), *arguments],
            cwd=self.folder,
            env=self.environ,
            input=told,
            capture_output=True,
            text=True,
            timeout=processes.PATIENCE_SECONDS,
            check=False,
        )
        if ended.returncode != 0:
            raise RuntimeError(f"taskyard {' '.join(arguments)}: {ended.stdout}{ended.stderr}")
        return ended.stdout

    # The processes.

    def start_api(self, **more: str) -> Program:
        self.api.start(**more)
        wait_until(self.api_answers, f"the API answers, see {self.api.log}")
        return self.api

    def api_answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/livez", timeout=2).status_code == 200
        return False

    def add_worker(
        self, concurrency: int = 2, /, *, profile: str = "default", **more: str
    ) -> Program:
        """Start one more worker; `await_workers` waits until it consumes."""
        arguments = ["worker", "--concurrency", str(concurrency), "--profile", profile]
        worker = self._program(f"worker-{len(self.workers)}", arguments)
        self.workers.append(worker)
        worker.start(**more)
        return worker

    def add_beat(self, **more: str) -> Program:
        beat = self._program(f"beat-{len(self.beats)}", ["beat"])
        self.beats.append(beat)
        beat.start(**more)
        return beat

    def start(self, *, workers: int = 2, concurrency: int = 2, api: bool = True) -> None:
        """Start workers, one beat and the API; return when all of them are at work."""
        for _ in range(workers):
            self.add_worker(concurrency)
        self.add_beat()
        if api:
            self.start_api()
        self.await_workers()

    def await_workers(self) -> None:
        """Return when each running worker consumes."""
        running = sum(worker.is_running for worker in self.workers)
        wait_until(
            lambda: self.consumers() >= running,
            f"{running} workers consume, see {self.folder}",
        )

    def await_ready(self, worker: Program) -> None:
        """Return when this worker has begun to consume."""
        wait_until(lambda: " ready." in worker.told, f"{worker.name} consumes, see {worker.log}")

    def end(self) -> None:
        for program in self.programs:
            program.end()
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _program(self, name: str, arguments: Sequence[str]) -> Program:
        log = self.folder / f"{name}.log"
        program = Program(name, [_taskyard(), *arguments], self.environ, log)
        self.programs.append(program)
        return program

    # What a client sees.

    def submit(self, task: str, params: Mapping[str, Any] | None = None, **options: Any) -> str:
        """Submit one run through the API; return its id."""
        answer = self.post("/api/v1/tasks/run", task=task, params=params or {}, options=options)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task_id"])

    def submit_batch(self, items: Sequence[Mapping[str, Any]]) -> list[str]:
        """Submit runs in one request through the API; return their ids."""
        answer = self.post("/api/v1/tasks/run/batch", items=items)
        assert answer.status_code == 202, answer.text
        return list(answer.json()["task_ids"])

    def post(self, path: str, **body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, headers=self.headers, timeout=30)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers=self.headers, timeout=30)

    # What the database holds.

    def sql(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement in a transaction of its own; a restart is waited for."""
        deadline = time.monotonic() + processes.PATIENCE_SECONDS
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = self.postgres.connect(self.name)
                cursor = self._connection.execute(statement, params)
                return list(cursor.fetchall()) if cursor.description else []
            except psycopg.OperationalError:
                self._connection = None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def ask(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement on a connection of its own, from any thread."""
        with contextlib.closing(self.postgres.connect(self.name)) as connection:
            return list(connection.execute(statement, params).fetchall())

    def status(self, run_id: str) -> str:
        return str(self.sql("SELECT status FROM task_runs WHERE id = %s", run_id)[0][0])

    def attempt(self, run_id: str) -> int:
        return int(self.sql("SELECT attempt FROM task_runs WHERE id = %s", run_id)[0][0])

    def error_type(self, run_id: str) -> str:
        return str(self.sql("SELECT error->>'type' FROM task_runs WHERE id = %s", run_id)[0][0])

    def events(self, run_id: str) -> list[str]:
        rows = self.sql(
            "SELECT to_status FROM task_run_events WHERE run_id = %s ORDER BY id", run_id
        )
        return [row[0] for row in rows]

    def await_status(
        self, run_id: str, *statuses: str, seconds: float = processes.PATIENCE_SECONDS
    ) -> str:
        wait_until(
            lambda: self.status(run_id) in statuses,
            lambda: f"{run_id} is {' or '.join(statuses)}: {self.events(run_id)} {self.folder}",
            seconds,
        )
        return self.status(run_id)

    def counts(self) -> dict[str, int]:
        """Return the number of runs per status."""
        return dict(self.sql("SELECT status, count(*) FROM task_runs GROUP BY status"))

    def await_all_ended(self, seconds: float = processes.PATIENCE_SECONDS) -> dict[str, int]:
        """Return the counts as soon as no run is under way, or at the end of the patience."""
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: set(self.counts()) <= set(ENDED), "all runs have ended", seconds)
        return self.counts()

    def outcomes(self, run_ids: Sequence[str]) -> list[tuple[str, int]]:
        """Return status and attempt of each run."""
        statement = "SELECT id::text, status, attempt FROM task_runs WHERE id::text = ANY(%s)"
        found = {
            run_id: (status, attempt)
            for run_id, status, attempt in self.sql(statement, list(run_ids))
        }
        return [found[run_id] for run_id in run_ids]

    def await_outcomes(
        self, run_ids: Sequence[str], seconds: float = processes.PATIENCE_SECONDS
    ) -> list[tuple[str, int]]:
        """Return status and attempt of each run as soon as no run at all is under way."""
        self.await_all_ended(seconds)
        return self.outcomes(run_ids)

    def forget(self) -> None:
        """Empty the tables and the list of starts; nothing may be under way."""
        tables = "task_runs, task_run_events, task_run_logs, dead_letters, idempotency_keys"
        # Cascading: what else belongs to a run goes with it, whatever tables there will be.
        self.sql(f"TRUNCATE {tables}, fault_effects CASCADE")
        self.starts_file.write_text("")

    def starts(self) -> list[tuple[str, int, int, float]]:
        """Return every start of an attempt: run, attempt, process, moment."""
        lines = self.starts_file.read_text().splitlines()
        parts = [line.split() for line in lines]
        return [(run, int(attempt), int(pid), float(at)) for run, attempt, pid, at in parts]

    def begun(self, run_id: str) -> int:
        """Return how many attempts of the run have begun."""
        return [run for run, *_ in self.starts()].count(run_id)

    def await_begin(self, run_id: str) -> None:
        wait_until(lambda: self.begun(run_id) > 0, f"{run_id} has begun, see {self.folder}")

    # What the broker holds.

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        url = self.environ["TASKYARD_CELERY__BROKER_URL"]
        connection = connections.open_connection(url, timeout_seconds=5)
        try:
            yield connection.channel()
        finally:
            connection.close()

    def consumers(self) -> int:
        """Return how many workers consume from the default queue; 0 while it is not there."""
        try:
            with self.channel() as channel:
                queue = self.topology.broker_queue("default", 5)
                return int(channel.queue_declare(queue, passive=True).consumer_count)
        except Exception:  # noqa: BLE001 - no broker, no queue: no consumer
            return 0

    def waiting_messages(self) -> int:
        """Return how many messages wait in the default queue."""
        with self.channel() as channel:
            queue = self.topology.broker_queue("default", 5)
            return int(channel.queue_declare(queue, passive=True).message_count)

    def await_empty_queue(self) -> None:
        wait_until(lambda: self.waiting_messages() == 0, "the default queue is empty")
        # What was delivered last may still be with a worker.
        time.sleep(1.0)

    def wakeup(self, run_id: str, task: str) -> amqp.Message:
        """Return a wake-up of a run, as the product sends it."""
        headers = {"lang": "py", "task": task, "id": run_id, "root_id": run_id}
        return message_of(messages.BODY, headers)

    def publish(
        self,
        body: str | bytes,
        *,
        headers: Mapping[str, Any] | None = None,
        content_type: str | None = "application/json",
        content_encoding: str | None = "utf-8",
    ) -> None:
        """Put any bytes on the default queue."""
        message = message_of(
            body, headers or {}, content_type=content_type, content_encoding=content_encoding
        )
        with self.channel() as channel:
            channel.basic_publish(message, "", self.topology.broker_queue("default", 5))


def message_of(
    body: str | bytes,
    headers: Mapping[str, Any],
    *,
    content_type: str | None = "application/json",
    content_encoding: str | None = "utf-8",
) -> amqp.Message:
    """Return a persistent message; a property that is None is left out."""
    properties = {"content_type": content_type, "content_encoding": content_encoding}
    given = {name: value for name, value in properties.items() if value is not None}
    return amqp.Message(body, application_headers=dict(headers), delivery_mode=2, **given)


def _taskyard() -> str:
    return str(Path(sys.executable).with_name("taskyard"))
