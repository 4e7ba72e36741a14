"""Over a socket: sizes, framing and ends of connections, as uvicorn really treats them."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.api.harness import Recorder, build, embedded_settings, make_callers, migrate
from tests.integration.api.served import FOLDER

RUN = b"POST /api/v1/tasks/run HTTP/1.1\r\n"


@dataclass
class Server:
    port: int
    token: bytes
    log: Path

    def head(self, *lines: bytes) -> bytes:
        own = [b"Host: localhost", b"Authorization: Bearer " + self.token]
        return b"\r\n".join([*own, b"Content-Type: application/json", *lines]) + b"\r\n\r\n"

    def send(self, raw: bytes, *, half_close: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Send bytes on a connection of their own; return the first answer on it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(raw)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            return _read_answer(connection)


def _read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        assert chunk, f"the connection ended after {data!r}"
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return int(status.split(" ")[1]), headers, body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    settings = embedded_settings(folder)
    migrate(settings)
    _, services = build(settings, Recorder())
    tokens = asyncio.run(make_callers(services))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "uvicorn", "--factory", "tests.integration.api.served:create",
        "--port", str(port), "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, FOLDER: str(folder)}, stderr=output)
    try:
        _wait_for(port, process)
        yield Server(port, tokens["operator"].encode(), log)
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server has ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server does not listen")


def _problem(answer: tuple[int, dict[str, str], bytes], status: int) -> dict[str, object]:
    assert answer[0] == status, answer
    assert answer[1]["content-type"] == "application/problem+json"
    problem: dict[str, object] = json.loads(answer[2])
    assert problem["status"] == status
    return problem


def test_an_announced_size_is_refused_before_it_is_sent(server: Server) -> None:
    answer = server.send(RUN + server.head(b"Content-Length: 200000000"))
    _problem(answer, 413)
    assert answer[1]["connection"] == "close"


def test_a_chunked_body_is_cut_off_at_the_limit(server: Server) -> None:
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    _problem(server.send(RUN + server.head(b"Transfer-Encoding: chunked") + chunk * 3), 413)


def test_expect_100_continue_is_refused_early(server: Server) -> None:
    lines = (b"Content-Length: 200000000", b"Expect: 100-continue")
    _problem(server.send(RUN + server.head(*lines)), 413)


def test_a_short_body_leaves_nothing_and_no_stack(server: Server) -> None:
    raw = RUN + server.head(b"Content-Length: 500") + b'{"task": "sample.add_numbers"'
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(raw)
    _problem(server.send(b"GET /api/v1/tasks/x HTTP/1.1\r\n" + server.head()), 404)
    assert b"Traceback" not in server.log.read_bytes()


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: 2", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 2", b"Content-Length: 3"),
        (b"Content-Length: -2",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Host: other",),
        (b"X-Nul: a\x00b",),
    ],
    ids=["both", "two lengths", "negative", "two encodings", "two hosts", "nul"],
)
def test_doubtful_framing_is_400(server: Server, lines: tuple[bytes, ...]) -> None:
    status, _, _ = server.send(RUN + server.head(*lines) + b"0\r\n\r\n")
    assert 400 <= status < 500


def test_large_headers_and_paths_are_refused(server: Server) -> None:
    get = b"GET /api/v1/tasks HTTP/1.1\r\n"
    many = tuple(b"X-%d: a" % number for number in range(2000))
    assert server.send(get + server.head(b"X-Long: " + b"a" * 100_000))[0] in (400, 431)
    _problem(server.send(get + server.head(*many)), 431)
    status, _, _ = server.send(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + server.head())
    assert status in (400, 414)


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT", b"F@O"])
def test_odd_methods_are_refused(server: Server, method: bytes) -> None:
    status, _, _ = server.send(method + b" /api/v1/tasks HTTP/1.1\r\n" + server.head())
    assert status in (400, 404, 405)


def test_an_unauthenticated_body_is_not_waited_for(server: Server) -> None:
    head = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
    _problem(server.send(RUN + head), 401)


def test_ids_in_the_log_stay_on_one_line(server: Server) -> None:
    lines = (b"X-Request-ID: ${jndi:ldap://x}", b"traceparent: " + b"a" * 5000)
    server.send(b"GET /%1b[31mred HTTP/1.1\r\n" + server.head(b"X-Request-ID: \x1b[31mred"))
    _, headers, _ = server.send(b"GET /livez HTTP/1.1\r\n" + server.head(*lines))
    assert re.fullmatch(r"[0-9a-f-]{36}", headers["x-request-id"])
    for line in server.log.read_bytes().splitlines():
        assert b"\x1b" not in line
        assert b"jndi" not in line


def test_metrics_are_open_to_this_machine(server: Server) -> None:
    raw = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
    status, _, body = server.send(raw + b"\r\n")
    assert status == 200
    assert b"taskyard_http_requests_total" in body
    _problem(server.send(raw + b"X-Forwarded-For: 10.0.0.1\r\n\r\n"), 401)
