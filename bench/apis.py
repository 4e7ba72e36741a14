"""The HTTP servers of a comparison: ours, the one by hand, and the one that does nothing."""

import contextlib
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from app.config import load_settings
from app.main import migrate
from bench.peers.adapter import tool
from bench.running import Process, free_port, wait_for
from bench.sides import Side
from bench.yard import PASSWORD, Yard

PLAIN: Final = Side("by hand", "bench.peers.plain_api")
BARE: Final = Side("does nothing", "bench.peers.bare_api")
NOTHING: Final = {"task": "bench.nothing", "params": {}}


@dataclass(frozen=True)
class Api:
    """A running server: where tasks are submitted, and with which headers."""

    side: Side
    url: str
    headers: Mapping[str, str]
    process: Process


@contextlib.contextmanager
def serving(yard: Yard, side: Side, database: str | None = None) -> Iterator[Api]:
    """Run the side's server, one process; ours perhaps through a door to its database."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    if side.is_ours:
        migrate(load_settings(environ=yard.environment(side)))
        command = [tool("taskyard"), "api", "--port", str(port)]
        path = "/api/v1/tasks/run"
    else:
        command = [
            *(side.python, "-m", "uvicorn", f"{side.module}:app", "--port", str(port)),
            *("--loop", "uvloop", "--http", "httptools"),
            *("--no-access-log", "--log-level", "warning"),
        ]
        path = "/tasks/run"
    with yard.process(side, command, database=database) as process:
        wait_for(f"{base}/readyz", process)
        headers = {"Authorization": f"Bearer {_token(base)}"} if side.is_ours else {}
        yield Api(side, base + path, headers, process)


def _token(base: str) -> str:
    form = {"grant_type": "password", "username": "admin", "password": PASSWORD}
    data = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(f"{base}/api/v1/auth/token", data) as answer:  # noqa: S310 - http
        return str(json.load(answer)["access_token"])
