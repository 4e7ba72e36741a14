"""An HTTP service in this process that gives the answers it was told to give."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Answer:
    """One answer; a body that is no text is sent as JSON."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class FakeService:
    """Answers by method and path; the last answer of a path stays."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[Received] = []
        self._answers: dict[tuple[str, str], list[Answer]] = {}

    def answer(self, method: str, path: str, *answers: Answer) -> None:
        """Set what a path below `/api/v1` answers, one after the other."""
        self._answers[method, f"/api/v1{path}"] = list(answers)

    def respond(self, request: Received) -> Answer:
        self.received.append(request)
        answers = self._answers.get((request.method, request.path))
        if not answers:
            return problem(404, "NOT_FOUND", f"no answer for {request.method} {request.path}")
        return answers.pop(0) if len(answers) > 1 else answers[0]


def problem(status: int, code: str, detail: str = "What happened.", **more: Any) -> Answer:
    """Return an answer as RFC 9457 describes it."""
    body = {"type": f"/api/v1/errors/{code}", "status": status, "code": code, "detail": detail}
    body |= {"title": code, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", **more}
    return Answer(body, status, media_type="application/problem+json")


@contextmanager
def serve(service: FakeService) -> Iterator[FakeService]:
    """Serve on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = Received(
                self.command,
                parts.path,
                parse_qsl(parts.query, keep_blank_values=True),
                headers,
                self.rfile.read(length),
            )
            answer = service.respond(received)
            text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            data = text.encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", answer.media_type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 - the names that the library calls

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its signature
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
