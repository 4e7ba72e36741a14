"""Reading a body: its type and size are checked before it is read, and it must arrive in time."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from app.api.errors import RequestTimeout
from app.common.errors import PayloadTooLarge, UnsupportedMediaType
from app.common.strict_json import InvalidJsonValue, loads

BODY_SECONDS = 30.0
UPLOAD_SECONDS = 600.0
_LARGE_BYTES = 256 * 1024
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


class CheckedRequest(Request):
    """A request whose body was read already; its JSON is the value that the strict parser gave."""

    def __init__(self, request: Request, raw: bytes, value: Any = None) -> None:
        super().__init__(request.scope, replay(raw, request.receive))
        self._value = value

    async def json(self) -> Any:
        """Return the strictly parsed body."""
        return self._value


async def read_json(request: Request, limit: int) -> Request:
    """Return the request with its JSON parsed; an empty body stays empty for the route to judge."""
    raw = await _read(request, limit, JSON)
    if len(raw) > _LARGE_BYTES:
        # A large document takes a good part of a second, which other requests must not wait for.
        return CheckedRequest(request, raw, await asyncio.to_thread(loads, raw))
    return CheckedRequest(request, raw, loads(raw) if raw else None)


async def read_form(request: Request, limit: int) -> Request:
    """Return the request with its URL-encoded form read, which holds no NUL."""
    raw = await _read(request, limit, FORM)
    if b"%00" in raw or b"\x00" in raw:
        raise InvalidJsonValue(
            "A form field holds the NUL character, which a database cannot keep."
        )
    return CheckedRequest(request, raw)


def watch_upload(request: Request, limit: int) -> Request:
    """Return the request with a body that is read piece by piece: bounded in size and time."""
    _check_type(request.headers, MULTIPART)
    _check_length(request.headers, limit)
    return Request(request.scope, _bounded(request.receive, limit, UPLOAD_SECONDS))


def refuse_large(headers: Headers, limit: int) -> None:
    """Raise PayloadTooLarge when the announced body is too large for a route that reads none."""
    _check_length(headers, limit)


async def _read(request: Request, limit: int, media_type: str) -> bytes:
    headers = request.headers
    if "content-type" in headers:
        _check_type(headers, media_type)
    _check_length(headers, limit)
    raw = await read_raw(request.receive, limit)
    if raw:
        _check_type(headers, media_type)
    return raw


async def read_raw(receive: Receive, limit: int) -> bytes:
    """Return the whole body; PayloadTooLarge, RequestTimeout, or ClientDisconnect without it."""
    receive = _bounded(receive, limit, BODY_SECONDS)
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def _check_type(headers: Headers, expected: str) -> None:
    values = headers.getlist("content-type")
    media_type, *parameters = [part.strip().lower() for part in ";".join(values).split(";")]
    charsets = [
        part.partition("=")[2].strip('"') for part in parameters if part.startswith("charset=")
    ]
    encodings = headers.getlist("content-encoding")
    if len(values) != 1 or media_type != expected:
        raise _wrong_type(f"The body must be {expected}.", expected)
    if any(charset not in ("utf-8", "utf8") for charset in charsets):
        raise _wrong_type("The body must be encoded as UTF-8.", expected)
    if any(encoding.strip().lower() != "identity" for encoding in encodings):
        raise _wrong_type("A compressed body is not read.", expected)


def _wrong_type(detail: str, expected: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        detail, hint=f"Send 'Content-Type: {expected}'.", headers={"Accept": expected}
    )


def _check_length(headers: Headers, limit: int) -> None:
    # `app.api.middleware.framing` has made sure that the length is a number.
    if int(headers.get("content-length", "0")) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> PayloadTooLarge:
    # The rest of the body is not waited for, so the connection cannot be used again.
    return PayloadTooLarge(
        f"The body is larger than {limit} bytes.", headers={"Connection": "close"}
    )


def _bounded(receive: Receive, limit: int, seconds: float) -> Receive:
    total = 0
    deadline = math.inf
    complete = False

    async def bounded() -> Message:
        nonlocal total, deadline, complete
        if complete:
            return await receive()
        loop = asyncio.get_running_loop()
        deadline = min(deadline, loop.time() + seconds)
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise RequestTimeout(
                f"The body did not arrive within {seconds:g} seconds.",
                headers={"Connection": "close"},
            ) from None
        total += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if total > limit:
            raise _too_large(limit)
        return message

    return bounded


def replay(raw: bytes, receive: Callable[[], Awaitable[Message]]) -> Receive:
    """Return a `receive` that gives the body, which was read already, and then what else comes."""
    pending: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
