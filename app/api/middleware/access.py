"""One log line and one measurement for every request."""

import time
from functools import cache

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.facts import RequestFacts, open_facts
from app.common.logging import get_logger
from app.common.metrics import HTTP_REQUESTS, HTTP_SECONDS

# What nginx calls it when the client went away before the answer began.
CLIENT_CLOSED_REQUEST = 499
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})
_MAX_PATH = 200

log = get_logger(__name__)


class AccessMiddleware:
    """Counts, times and logs requests by route template, never by path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request and record how it ended, also when it raises."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        facts = open_facts(scope)
        status = CLIENT_CLOSED_REQUEST
        started = time.perf_counter()

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        finally:
            _record(scope, facts, status, time.perf_counter() - started)


def _record(scope: Scope, facts: RequestFacts, status: int, seconds: float) -> None:
    method = scope["method"] if scope["method"] in _METHODS else "OTHER"
    count, timer = _metrics_of(method, facts.route, status)
    count.inc()
    timer.observe(seconds)
    write = log.debug if facts.route in _PROBES else log.info
    write(
        "http.request",
        method=method,
        route=facts.route,
        path=_shown_path(scope),
        status=status,
        duration_ms=round(seconds * 1000, 1),
        user=facts.user,
    )


# Labels are closed sets, so few are ever kept; looking them up takes longer than counting.
@cache
def _metrics_of(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    count = HTTP_REQUESTS.labels(method, route, str(status))
    return count, HTTP_SECONDS.labels(method, route)


def _shown_path(scope: Scope) -> str:
    # The raw path is percent-encoded: no control character reaches a terminal.
    raw: bytes = scope.get("raw_path") or b""
    return raw[:_MAX_PATH].decode("ascii", "backslashreplace")
