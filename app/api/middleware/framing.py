"""Limits on the request line and the headers, which the server itself does not set."""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import HeadersTooLarge, MalformedRequest, UriTooLong

MAX_URI_BYTES = 8 * 1024
MAX_HEADER_BYTES = 32 * 1024
MAX_FIELD_BYTES = 8 * 1024
MAX_FIELDS = 100
_FRAMING = (b"content-length", b"transfer-encoding", b"host")
_HOST = re.compile(r"[A-Za-z0-9._~%-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_DIGITS = re.compile(r"[0-9]{1,18}")


class FramingMiddleware:
    """Refuses requests that are too large to read, or that a proxy may have read differently."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise the fault before anything of the request is looked at."""
        if scope["type"] == "http":
            _check_uri(scope)
            _check_sizes(scope)
            _check_framing(scope)
        await self.app(scope, receive, send)


def _check_uri(scope: Scope) -> None:
    length = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
    if length > MAX_URI_BYTES:
        raise UriTooLong(
            f"Path and query are longer than {MAX_URI_BYTES} bytes.",
            headers={"Connection": "close"},
        )


def _check_sizes(scope: Scope) -> None:
    sizes = [len(name) + len(value) for name, value in scope["headers"]]
    if (
        len(sizes) > MAX_FIELDS
        or sum(sizes) > MAX_HEADER_BYTES
        or max(sizes, default=0) > MAX_FIELD_BYTES
    ):
        raise HeadersTooLarge(
            f"At most {MAX_FIELDS} header fields of {MAX_FIELD_BYTES} bytes are read, "
            f"{MAX_HEADER_BYTES} bytes together.",
            headers={"Connection": "close"},
        )


def _check_framing(scope: Scope) -> None:
    fields: dict[bytes, list[str]] = {name: [] for name in _FRAMING}
    for name, value in scope["headers"]:
        if name in fields:
            fields[name].append(value.decode("latin-1"))
    lengths, hosts = fields[b"content-length"], fields[b"host"]
    if lengths and fields[b"transfer-encoding"]:
        raise _refusal("Content-Length and Transfer-Encoding came together.")
    if len(lengths) > 1 or any(not _DIGITS.fullmatch(length) for length in lengths):
        raise _refusal("Content-Length must be one number.")
    if len(hosts) > 1 or (not hosts and scope.get("http_version") == "1.1"):
        raise _refusal("There must be one Host header.")
    if any(not _HOST.fullmatch(host) for host in hosts):
        raise _refusal("The Host header is not a host name.")


def _refusal(detail: str) -> MalformedRequest:
    # What follows on a connection whose framing is in doubt must not be read as a request.
    return MalformedRequest(detail, headers={"Connection": "close"})
