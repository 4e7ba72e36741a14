import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.load import generator, post_for

BODY = {"task": "bench.nothing", "params": {"text": 'a "quoted" \\ line\n'}}


class Server(ThreadingHTTPServer):
    """Answers every second request with 202 and the others with 422, and keeps what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: set[bytes] = set()
        self.headers: set[tuple[str | None, str | None]] = set()
        self.connections = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    is_odd = False

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        self.server.bodies.add(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers.add((self.headers["Content-Type"], self.headers["Authorization"]))
        self.is_odd = not self.is_odd
        self.send_response(202 if self.is_odd else 422)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as opened:
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["wrk", "bench.load_client"])
def test_a_load_counts_what_was_accepted_and_refused(
    server: Server, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if kind != "wrk":
        monkeypatch.setenv("PATH", str(tmp_path))
    if generator() != kind:
        pytest.skip("wrk is not installed")
    url = f"http://127.0.0.1:{server.server_port}/run"
    load = post_for(url, BODY, 1.0, headers={"Authorization": "Bearer x"}, connections=4)
    # wrk tries the address out with one more.
    assert server.connections in {4, 5}
    assert server.bodies == {
        b'{"task":"bench.nothing","params":{"text":"a \\"quoted\\" \\\\ line\\n"}}'
    }
    assert server.headers == {("application/json", "Bearer x")}
    assert load.accepted > 0
    # A connection alternates; each may have been cut off behind a 202.
    assert 0 <= load.accepted - load.refused <= 4
    assert load.rate == load.accepted / load.seconds
    assert 0 < load.p50_ms <= load.p99_ms


def test_a_server_that_is_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="ConnectionRefusedError"):
        post_for("http://127.0.0.1:1/run", BODY, 0.1)
