"""Test services from Debian's own packages: private copies on loopback, in a temporary folder.

Nothing that the packages set up for the machine is used or changed: each server gets a data
folder and a port of its own, runs as its package's user, and is stopped at the end.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PACKAGES = {
    "postgres": "postgresql",
    "mysql": "mariadb-server",
    "redis": "redis-server",
    "amqp": "rabbitmq-server",
}
USERS = {"postgres": "postgres", "mysql": "mysql", "redis": "redis", "amqp": "rabbitmq"}
INSTALL_SECONDS = 900
START_SECONDS = 90


class DebianServices:
    """Servers of the missing services; `start` returns their URLs, `stop` ends them."""

    def __init__(self) -> None:
        self._root: Path | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def unavailable(self) -> str | None:
        """Why Debian's packages cannot be used here, or None when they can."""
        if shutil.which("apt-get") is None:
            return "no apt-get on this machine"
        if os.geteuid() != 0:
            return "not run as root"
        return None

    def start(self, names: Sequence[str]) -> dict[str, str]:
        """URLs by name; raises OSError or CalledProcessError when a server does not come up."""
        self._install([name for name in names if find_server(name) is None])
        self._root = Path(tempfile.mkdtemp(prefix="taskyard-services-"))
        self._root.chmod(0o755)
        starters = {
            "postgres": self._start_postgres,
            "mysql": self._start_mysql,
            "redis": self._start_redis,
            "amqp": self._start_amqp,
        }
        return {name: starters[name](free_port()) for name in names}

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)

    def _install(self, names: Sequence[str]) -> None:
        if not names:
            return
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        packages = [PACKAGES[name] for name in names]
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
        ):
            subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                timeout=INSTALL_SECONDS,
            )

    def _start_postgres(self, port: int) -> str:
        data = self._folder("postgres")
        initdb = _server("postgres").with_name("initdb")
        self._as_user(
            "postgres", [initdb, "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8"]
        )
        self._serve(
            "postgres",
            [
                *(_server("postgres"), "-D", data, "-p", port, "-k", data),
                *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
                *("-c", "max_connections=200"),
            ],
            port,
        )
        return f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def _start_mysql(self, port: int) -> str:
        data = self._folder("mysql")
        common = ["--no-defaults", f"--datadir={data}"]
        self._as_user(
            "mysql", ["mariadb-install-db", *common, "--auth-root-authentication-method=normal"]
        )
        self._serve(
            "mysql",
            [
                *(_server("mysql"), *common, f"--port={port}", "--bind-address=127.0.0.1"),
                *(f"--socket={data}/mysqld.sock", f"--pid-file={data}/mysqld.pid"),
                "--skip-name-resolve",
            ],
            port,
        )
        return f"mysql://root@127.0.0.1:{port}"

    def _start_redis(self, port: int) -> str:
        data = self._folder("redis")
        command = [_server("redis"), "--port", port, "--bind", "127.0.0.1", "--dir", data]
        self._serve("redis", [*command, "--save", "", "--appendonly", "no"], port)
        return f"redis://127.0.0.1:{port}/0"

    def _start_amqp(self, port: int) -> str:
        data = self._folder("amqp")
        names_port = free_port()
        # Erlang would leave its name server behind as a daemon; this one ends with the others.
        self._serve("amqp", ["epmd", "-port", names_port, "-address", "127.0.0.1"], names_port)
        settings = {
            "HOME": str(data),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(names_port),
            "RABBITMQ_NODENAME": f"taskyard-test-{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(data),
            "RABBITMQ_LOG_BASE": str(data),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(data / "none"),
        }
        self._serve("amqp", [_server("amqp")], port, settings)
        return f"amqp://guest:guest@127.0.0.1:{port}//"

    def _folder(self, name: str) -> Path:
        if self._root is None:
            raise RuntimeError("start() makes the folder first")
        folder = self._root / name
        folder.mkdir(mode=0o700)
        shutil.chown(folder, USERS[name])
        return folder

    def _as_user(self, name: str, command: Sequence[object]) -> None:
        subprocess.run(
            [str(part) for part in command],
            user=USERS[name],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=START_SECONDS,
        )

    def _serve(
        self, name: str, command: Sequence[object], port: int, settings: Mapping[str, str] = {}
    ) -> None:
        """Start a server as its package's user and return when its port answers."""
        account = pwd.getpwnam(USERS[name])
        process = subprocess.Popen(
            [str(part) for part in command],
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            cwd="/",
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._processes.append(process)
        deadline = time.monotonic() + START_SECONDS
        while not is_open(port):
            if process.poll() is not None:
                raise OSError(f"{name} ended with exit code {process.returncode} while starting")
            if time.monotonic() > deadline:
                raise OSError(f"{name} did not open port {port} within {START_SECONDS} seconds")
            time.sleep(0.2)


def find_server(name: str) -> Path | None:
    """The server's program, or None when its package is not installed."""
    if name == "postgres":
        # Debian keeps each major version in a folder of its own and none of them on PATH.
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        return found[-1] if found else None
    program = {
        "mysql": "mariadbd",
        "redis": "redis-server",
        # /usr/sbin/rabbitmq-server drops the environment when it changes the user; we do that.
        "amqp": "/usr/lib/rabbitmq/bin/rabbitmq-server",
    }[name]
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    return Path(path) if path else None


def _server(name: str) -> Path:
    found = find_server(name)
    if found is None:
        raise OSError(f"the package {PACKAGES[name]} is installed but its server is not there")
    return found


def free_port() -> int:
    """A port of the loopback address that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0
