import pytest

from app.api.errors import HeadersTooLarge, MalformedRequest, UriTooLong
from app.api.middleware.framing import FramingMiddleware
from app.common.errors import TaskyardError
from tests.unit.api.asgi import Headers, call, hello, http_scope

HOST = (b"host", b"localhost:8000")


async def _pass(headers: Headers, path: str = "/", query: bytes = b"") -> int | None:
    scope = http_scope(path=path, headers=headers, query=query)
    return (await call(FramingMiddleware(hello), scope)).status


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],
        [HOST, (b"content-length", b"0")],
        [HOST, (b"transfer-encoding", b"chunked")],
        [(b"host", b"[::1]:8000")],
        [HOST, (b"x", b"a" * 8000)],
    ],
)
async def test_ordinary_requests_pass(headers: Headers) -> None:
    assert await _pass(headers) == 200


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ([HOST, (b"content-length", b"3"), (b"transfer-encoding", b"chunked")], MalformedRequest),
        ([HOST, (b"content-length", b"3"), (b"content-length", b"3")], MalformedRequest),
        ([HOST, (b"content-length", b"-1")], MalformedRequest),
        ([HOST, (b"content-length", b"+3")], MalformedRequest),
        ([HOST, (b"content-length", b"9" * 400)], MalformedRequest),
        ([HOST, (b"content-length", b"")], MalformedRequest),
        ([HOST, HOST], MalformedRequest),
        ([], MalformedRequest),
        ([(b"host", b"a b")], MalformedRequest),
        ([(b"host", b"evil.example/path")], MalformedRequest),
        ([HOST, (b"x", b"a" * 9000)], HeadersTooLarge),
        ([HOST, *[(b"x", b"a" * 5000)] * 8], HeadersTooLarge),
        ([HOST, *[(b"x", b"a")] * 200], HeadersTooLarge),
    ],
)
async def test_doubtful_or_oversized_headers_are_refused(
    headers: Headers, fault: type[TaskyardError]
) -> None:
    with pytest.raises(fault) as raised:
        await _pass(headers)
    # What follows on such a connection must not be read as another request.
    assert raised.value.headers == {"Connection": "close"}


async def test_a_long_path_or_query_is_refused() -> None:
    with pytest.raises(UriTooLong):
        await _pass([HOST], path="/" + "a" * 9000)
    with pytest.raises(UriTooLong):
        await _pass([HOST], query=b"q=" + b"a" * 9000)


async def test_http_1_0_needs_no_host() -> None:
    scope = {**http_scope(headers=[]), "http_version": "1.0"}
    assert (await call(FramingMiddleware(hello), scope)).status == 200
