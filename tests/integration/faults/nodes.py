"""Servers of the kit's own, in a temporary folder: killed, frozen and restarted at will.

Nothing of the machine's own servers is used or changed. The ports lie below 32768: a client's own
socket could take one of the ephemeral ports while its server is down.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import amqp
import psycopg
import pymysql
import pytest
import redis

from scripts.debian_services import PACKAGES, find_server
from tests.integration.faults import processes
from tests.integration.faults.processes import MARK, wait_until

_PORTS: Final = range(21_000, 32_000)
_USERS: Final = {"postgres": "postgres", "mysql": "mysql", "redis": "redis", "amqp": "rabbitmq"}


class Kit:
    """The folder and the processes of one set of servers; nothing of it survives the kit."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(6)
        self.jwt_secret = secrets.token_hex(32)
        self.folder = Path(tempfile.mkdtemp(prefix="taskyard-faults-"))
        self.folder.chmod(0o755)
        self._keeper = processes.watch_over(self.token, self.folder)
        self._last_word = b""

    @property
    def environment(self) -> dict[str, str]:
        """Return what every process of the kit has in its environment."""
        return {MARK: self.token}

    def keep_folder(self) -> Path:
        """Leave the folder with the logs of all processes where it is, and return it."""
        self._last_word = processes.KEEP_FOLDER
        return self.folder

    def close(self) -> None:
        """End every process and remove the folder: the keeper does it, as after a crash."""
        self._keeper.communicate(self._last_word)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Node:
    """One server: `start`, `stop`, `kill`, `freeze`, `thaw`, `restart`."""

    service: str

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.port = free_port()
        self.folder = kit.folder / f"{self.service}-{self.port}"
        self.folder.mkdir(mode=0o700)
        self.account = _account(self.service)
        if self.account is not None:
            shutil.chown(self.folder, self.account)
        self.prepare()
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make the data folder."""

    def command(self) -> Sequence[object]:
        raise NotImplementedError

    def settings(self) -> Mapping[str, str]:
        return {}

    def ping(self) -> None:
        """Return when the server answers a client; raise anything when it does not."""
        raise NotImplementedError

    @property
    def pids(self) -> list[int]:
        """Return the server's processes, the one that was started first."""
        pid = self.pid
        return [pid, *processes.descendants(pid)]

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.service} has not been started")
        return self._process.pid

    def start(self) -> None:
        """Start the server; return when it answers."""
        self.launch()
        wait_until(self.is_up, f"{self.service} answers, see {self.log}")

    def launch(self) -> None:
        """Start the server and do not wait for it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in self.command()],
                env={**os.environ, **self.kit.environment, **self.settings()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
                **_as_user(self.account),
            )

    def is_up(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise OSError(f"{self.service} has ended with {self._process.returncode}: {self.log}")
        try:
            self.ping()
        except Exception:  # noqa: BLE001 - four drivers have no common error class
            return False
        return True

    @property
    def log(self) -> Path:
        return self.kit.folder / f"{self.folder.name}.log"

    def kill(self) -> None:
        """`kill -9` of all processes of the server."""
        self._end(signal.SIGKILL, self.pids)

    def stop(self) -> None:
        """Stop the server as its manual says."""
        self._end(signal.SIGTERM, [self.pid])

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the server's clock: connections stay open and nothing answers."""
        processes.send(self.pids, signal.SIGSTOP)

    def thaw(self) -> None:
        processes.send(self.pids, signal.SIGCONT)

    def run(self, command: Sequence[object], **more: str) -> str:
        """Run a program as the server's user; return what it prints."""
        ended = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **self.kit.environment, **self.settings(), **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            timeout=processes.PATIENCE_SECONDS,
            check=False,
            **_as_user(self.account),
        )
        if ended.returncode != 0:
            raise OSError(f"{command[0]}: {ended.stdout}{ended.stderr}")
        return str(ended.stdout)

    def _end(self, number: signal.Signals, pids: Sequence[int]) -> None:
        below = self.pids
        processes.send(pids, number)
        wait_until(lambda: not any(map(processes.is_alive, below)), f"{self.service} has ended")
        if self._process is not None:
            self._process.wait()


class Postgres(Node):
    """PostgreSQL with trust on loopback."""

    service = "postgres"

    def prepare(self) -> None:
        initdb = _server("postgres").with_name("initdb")
        options = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"]
        self.run([initdb, "-D", self.folder, *options])

    def command(self) -> Sequence[object]:
        return [
            *(_server("postgres"), "-D", self.folder, "-p", self.port, "-k", self.folder),
            *("-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"),
        ]

    def ping(self) -> None:
        self.connect("postgres").close()

    def stop(self) -> None:
        """Stop at once with all transactions rolled back (`fast`)."""
        self._end(signal.SIGINT, [self.pid])

    def restart_immediately(self) -> None:
        """Restart as after a crash (`immediate`): connections break, recovery runs at the start."""
        self._end(signal.SIGQUIT, [self.pid])
        self.start()

    def connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            dbname=database,
            autocommit=True,
            connect_timeout=2,
        )

    def create_database(
        self, name: str, port: int | None = None, template: str = "template1"
    ) -> str:
        """Return the URL of a new database, through another port when one is given.

        Nobody may be connected to the template.
        """
        with contextlib.closing(self.connect("postgres")) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return f"postgresql+asyncpg://postgres@127.0.0.1:{port or self.port}/{name}"


class Mysql(Node):
    """MariaDB with an empty root password on loopback."""

    service = "mysql"

    def prepare(self) -> None:
        self.run(
            [
                *("mariadb-install-db", "--no-defaults", f"--datadir={self.folder}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            ]
        )

    def command(self) -> Sequence[object]:
        return [
            *(_server("mysql"), "--no-defaults", f"--datadir={self.folder}"),
            *(f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve"),
            *(f"--socket={self.folder}/s.sock", f"--pid-file={self.folder}/pid"),
        ]

    def ping(self) -> None:
        self.connect().close()

    def connect(self) -> pymysql.connections.Connection:
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", connect_timeout=2, autocommit=True
        )

    def create_database(self, name: str) -> str:
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        return f"mysql+aiomysql://root@127.0.0.1:{self.port}/{name}"


class Redis(Node):
    """Redis that keeps nothing on disk."""

    service = "redis"

    def command(self) -> Sequence[object]:
        return [
            *(_server("redis"), "--port", self.port, "--bind", "127.0.0.1"),
            *("--dir", self.folder, "--save", "", "--appendonly", "no"),
        ]

    def ping(self) -> None:
        with contextlib.closing(self.connect()) as client:
            client.ping()

    def connect(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=2, socket_connect_timeout=2)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


class Rabbit(Node):
    """RabbitMQ with its own node name, name server, cookie and database."""

    service = "amqp"

    def prepare(self) -> None:
        self._names_port = free_port()
        self._distribution_port = free_port()
        self._name = f"faults-{self.kit.token}-{self.port}@localhost"

    def settings(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._names_port),
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "none"),
            # An idle broker sleeps instead of spinning: the processes under test need the CPU.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def command(self) -> Sequence[object]:
        # /usr/sbin/rabbitmq-server drops the environment when it changes the user; the kit does it.
        return [_server("amqp")]

    def ping(self) -> None:
        self.connect().close()

    def connect(self) -> amqp.Connection:
        connection = amqp.Connection(
            host=f"127.0.0.1:{self.port}",
            userid="guest",
            password="guest",
            connect_timeout=3,
            read_timeout=10,
        )
        connection.connect()
        return connection

    @property
    def url(self) -> str:
        return self.url_at(None)

    def url_at(self, port: int | None) -> str:
        """Return the URL of the broker, through another port when one is given."""
        return f"amqp://guest:guest@127.0.0.1:{port or self.port}//"

    def control(self, *arguments: str) -> str:
        """Return what rabbitmqctl prints."""
        program = _server("amqp").with_name("rabbitmqctl")
        return self.run([program, "-q", *arguments])

    @property
    def pids(self) -> list[int]:
        # The broker's name server is a daemon of its own and lives on, as it does on any machine.
        return [pid for pid in super().pids if processes.name_of(pid) != "epmd"]


def require(*services: str) -> None:
    """End the test unless the servers are installed: skipped, failed under CI."""
    missing = [PACKAGES[name] for name in services if find_server(name) is None]
    if not missing:
        return
    message = f"the fault kit starts its own servers and finds no {', '.join(missing)}"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@contextlib.contextmanager
def started(node: Node) -> Iterator[Node]:
    """Yield the node while it runs."""
    node.start()
    try:
        yield node
    finally:
        node.kill()


def free_port() -> int:
    """Return a port below the ephemeral ones that nothing listens on."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _account(service: str) -> str | None:
    """Return the package's user when we may become it; root itself is refused by Postgres."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(_USERS[service]).pw_name
    return "nobody"


def _as_user(account: str | None) -> dict[str, Any]:
    if account is None:
        return {}
    entry = pwd.getpwnam(account)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _server(service: str) -> Path:
    found = find_server(service)
    if found is None:
        raise OSError(f"the package {PACKAGES[service]} is not installed")
    return found
