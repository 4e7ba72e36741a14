"""Test services from a Docker engine, when this machine has one with `docker compose`."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

COMPOSE_FILE = Path(__file__).with_name("test-services.yaml")
UP_SECONDS = 600

PORTS = {"postgres": 5432, "mysql": 3306, "redis": 6379, "amqp": 5672}
URLS = {
    "postgres": "postgresql://postgres@{address}/postgres",
    "mysql": "mysql://root@{address}",
    "redis": "redis://{address}/0",
    "amqp": "amqp://guest:guest@{address}//",
}


class DockerServices:
    """Containers of the missing services; `start` returns their URLs, `stop` removes them."""

    def __init__(self, docker: str = "docker") -> None:
        self._compose = [docker, "compose", "-f", str(COMPOSE_FILE)]
        self._docker = docker
        self._started = False

    def unavailable(self) -> str | None:
        """Why containers cannot be used here, or None when they can."""
        for command, reason in (
            ([self._docker, "info"], "no Docker engine answers"),
            ([*self._compose[:2], "version"], "the `docker compose` plugin is missing"),
        ):
            try:
                answer = subprocess.run(command, capture_output=True, timeout=30, check=False)
            except (OSError, subprocess.TimeoutExpired):
                return reason
            if answer.returncode != 0:
                return reason
        return None

    def start(self, names: Sequence[str]) -> dict[str, str]:
        """URLs by name of the containers of `names`, which are healthy when this returns."""
        self._started = True
        self._run("up", "--detach", "--wait", *names, timeout=UP_SECONDS)
        return {name: URLS[name].format(address=self._address(name)) for name in names}

    def stop(self) -> None:
        if self._started:
            self._run("down", "--volumes", "--timeout", "5")

    def _address(self, name: str) -> str:
        return self._run("port", name, str(PORTS[name])).strip()

    def _run(self, *arguments: str, timeout: float = 60) -> str:
        answer = subprocess.run(
            [*self._compose, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
        )
        return answer.stdout
