"""Headers that keep a browser from doing more with an answer than was meant."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_DEFAULTS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
# The same in the form of ASGI, for the many answers that have none of them yet.
_RAW = [
    (name.lower().encode(), value.encode())
    for name, value in (*_ALWAYS.items(), *_DEFAULTS.items())
]
_NAMES = frozenset(name for name, _ in _RAW)


class SecurityHeadersMiddleware:
    """Adds the headers to every answer; a page may set its own policy and its own caching."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request and add the headers when its answer starts."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(message)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _add(message: Message) -> None:
    if all(name not in _NAMES for name, _ in message["headers"]):
        message["headers"] = [*message["headers"], *_RAW]
        return
    headers = MutableHeaders(scope=message)
    headers.update(_ALWAYS)
    for name, value in _DEFAULTS.items():
        headers.setdefault(name, value)
