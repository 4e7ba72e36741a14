"""Where the sides of a comparison run: databases and names on the services, and processes."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url

from bench.peers import adapter
from bench.peers.tally import FOLDER, Tally
from bench.running import BenchError, Control, Process
from bench.sides import OURS, PEERS_PYTHON, ROOT, SINGLE, Side
from tests.services import ENVIRONMENT, Missing, Services, find_service

PASSWORD: Final = "correct horse battery staple"  # noqa: S105 - of scratch databases
OUR_DATABASE: Final = "TASKYARD_DATABASES__POSTGRES_MAIN__URL"
_NEEDED: Final = ("postgres", "redis", "amqp")


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
        return clean | place | (self._ours(side) if side.is_ours else self._peer(side))

    def database(self, name: str) -> str:
        """Return the URL of a database of its own, `postgresql+asyncpg://…`."""
        if name not in self._urls:
            self._urls[name] = self.services.create_database("postgres")
        return self._urls[name]

    def _ours(self, side: Side) -> dict[str, str]:
        return {
            OUR_DATABASE: self.database("taskyard"),
            "TASKYARD_CELERY__BROKER_URL": self.services.amqp_url,
            "TASKYARD_CELERY__NAMESPACE": self.services.namespace,
            "TASKYARD_CELERY__QUEUE_PREFIX": self.services.queue_prefix,
            "TASKYARD_REDIS__URL": self.services.redis_url,
            "TASKYARD_REDIS__NAMESPACE": self.services.redis_namespace,
            "TASKYARD_DATABASES__MYSQL_LINT__URL": f"sqlite+aiosqlite:///{self.folder}/lint.db",
            "TASKYARD_STORAGE__URL": f"file://{self.folder}/files",
            "TASKYARD_DATA_DIR": str(self.folder / "state"),
            "TASKYARD_AUTH__JWT__SECRET": "a secret of the benchmark, long enough for HMAC",
            "TASKYARD_AUTH__BOOTSTRAP_ADMIN": f"admin:{PASSWORD}",
            "TASKYARD_AUTH__ACCESS_TOKEN_SECONDS": "86400",
            "TASKYARD_PLUGINS": '["bench.tasks"]',
            "TASKYARD_LOGGING__LEVEL": "WARNING",
            "TASKYARD_CELERY__RESERVED_PROCESSES": "0",
            "TASKYARD_CELERY__TINY_QUEUES": "{}" if side is SINGLE else '{"default": 64}',
            "TASKYARD_CELERY__PREFETCH_MULTIPLIER": str(adapter.PREFETCH // adapter.PROCESSES),
            # A child that is replaced in the middle of a drain would be measured as well.
            "TASKYARD_CELERY__MAX_TASKS_PER_CHILD": "1000000",
        }

    def _peer(self, side: Side) -> dict[str, str]:
        peer = side.module.rpartition(".")[2]
        postgres = make_url(self.database(peer)).set(drivername="postgresql")
        # The vhost "/" in the form that every library understands.
        amqp = self.services.amqp_url
        return {
            adapter.AMQP_URL: f"{amqp[:-1]}%2F" if amqp.endswith("//") else amqp,
            adapter.POSTGRES_URL: postgres.render_as_string(hide_password=False),
            adapter.REDIS_URL: self.services.redis_url,
            adapter.PREFIX: self.services.queue_prefix,
        }

    @contextlib.contextmanager
    def control(self, side: Side) -> Iterator[Control]:
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
    def worker(self, side: Side, database: str | None = None) -> Iterator[tuple[Process, Tally]]:
        """Run the side's worker with a tally of its own; ours perhaps through a door to its
        database.
        """
        self._logs += 1
        tally = Tally(self.folder / f"tally-{self._logs}")
        command = [side.python, "-m", "bench.peers", side.module, "worker", side.profile]
        with self.process(side, command, tally=tally.folder, database=database) as process:
            yield process, tally
        shutil.rmtree(tally.folder)

    @contextlib.contextmanager
    def beat(self, database: str | None = None) -> Iterator[Process]:
        """Run our beat."""
        with self.process(OURS, [adapter.tool("taskyard"), "beat"], database=database) as process:
            yield process

    @contextlib.contextmanager
    def process(
        self,
        side: Side,
        command: Sequence[str],
        *,
        tally: Path | None = None,
        database: str | None = None,
        pipes: bool = False,
    ) -> Iterator[Process]:
        """Run a process of the side, in a session of its own, to the end of the block."""
        if not side.is_ours and not PEERS_PYTHON.exists():
            raise BenchError(f"{PEERS_PYTHON} is not there; run: make bench-setup")
        self._logs += 1
        log = self.folder / f"{self._logs:03}-{side.module.rpartition('.')[2]}.log"
        pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
        with log.open("wb") as errors:
            popen = subprocess.Popen(
                list(command),
                env=self.environment(side, tally) | ({OUR_DATABASE: database} if database else {}),
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


@contextlib.contextmanager
def open_yard() -> Iterator[Yard]:
    """Yield a yard; at the end nothing of it is left on the services.

    Raises BenchError when one of the services is not here.
    """
    for name in _NEEDED:
        if isinstance(found := find_service(name), Missing):
            raise BenchError(f"{name} is not here, set {ENVIRONMENT[name]}: {found.reason}")
    services = Services()
    try:
        with tempfile.TemporaryDirectory(prefix="taskyard-bench-") as name:
            yield Yard(services, Path(name))
    finally:
        services.close()
