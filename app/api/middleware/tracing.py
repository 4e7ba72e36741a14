"""The request's trace and its id: taken from the caller when well formed, made anew otherwise."""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.common.ids import new_id
from app.common.tracing import bind_trace, new_trace, parse_traceparent

# What gateways and clients make: numbers, UUIDs, `Root=1-67891233-…`, `trace/span;o=1`. Nothing
# that a terminal, a template or a log reader could take for more than text.
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:;,/=+@-]{0,127}")


class TraceMiddleware:
    """Binds trace and request id for a request's log lines; answers with ``X-Request-ID``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request inside its own span of the caller's trace, or of a new one."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        caller = parse_traceparent(_only(scope, b"traceparent"))
        trace = caller.child() if caller else new_trace()
        request_id = _request_id(scope)

        async def send_with_ids(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Nothing further in sets these two.
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode("latin-1")),
                    (b"traceresponse", trace.traceparent.encode("latin-1")),
                ]
            await send(message)

        with bind_trace(trace, request_id=request_id):
            await self.app(scope, receive, send_with_ids)


def _request_id(scope: Scope) -> str:
    given = _only(scope, b"x-request-id")
    return given if given and _REQUEST_ID.fullmatch(given) else new_id()


def _only(scope: Scope, name: bytes) -> str | None:
    values = [value for known, value in scope["headers"] if known == name]
    return values[0].decode("latin-1") if len(values) == 1 else None
