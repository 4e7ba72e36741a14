import asyncio
from typing import Any

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from app.api import body
from app.api.errors import RequestTimeout
from app.common.errors import PayloadTooLarge, TaskyardError, UnsupportedMediaType
from app.common.strict_json import BadJson, InvalidJsonValue
from tests.unit.api.asgi import http_scope

JSON = (b"content-type", b"application/json")
FORM = (b"content-type", b"application/x-www-form-urlencoded")


def _request(*chunks: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> Request:
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": index + 1 < len(chunks)}
        for index, chunk in enumerate(chunks)
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return Request(http_scope("POST", headers=[JSON] if headers is None else headers), receive)


async def _json(raw: bytes, **options: Any) -> Any:
    return await (await body.read_json(_request(raw, **options), 1000)).json()


async def test_the_strict_value_is_what_the_route_gets() -> None:
    request = await body.read_json(_request(b'{"a": ', b"1}"), 1000)
    assert await request.json() == {"a": 1}
    assert await request.body() == b'{"a": 1}'


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json;charset="UTF-8"',
    ],
)
async def test_json_in_utf_8_is_read(content_type: bytes) -> None:
    assert await _json(b"[1]", headers=[(b"content-type", content_type)]) == [1]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"application/x-www-form-urlencoded")],
        [(b"content-type", b"application/vnd.api+json")],
        [(b"content-type", b"application/json; charset=utf-16")],
        [(b"content-type", b"application/json; charset=latin-1")],
        [JSON, JSON],
        [JSON, (b"content-encoding", b"gzip")],
        [JSON, (b"content-encoding", b"br")],
    ],
)
async def test_another_type_or_encoding_is_415(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(UnsupportedMediaType):
        await _json(b"{}", headers=headers)


async def test_an_empty_body_needs_no_type() -> None:
    request = await body.read_json(_request(b"", headers=[]), 1000)
    assert await request.body() == b""


async def test_a_wrong_type_is_refused_before_the_body_is_read() -> None:
    async def receive() -> Message:
        raise AssertionError

    request = Request(http_scope("POST", headers=[(b"content-type", b"text/plain")]), receive)
    with pytest.raises(UnsupportedMediaType):
        await body.read_json(request, 1000)


async def test_an_announced_size_is_refused_before_the_body_is_read() -> None:
    async def receive() -> Message:
        raise AssertionError

    request = Request(http_scope("POST", headers=[JSON, (b"content-length", b"1001")]), receive)
    with pytest.raises(PayloadTooLarge) as raised:
        await body.read_json(request, 1000)
    assert raised.value.headers == {"Connection": "close"}


async def test_an_unannounced_size_is_refused_while_the_body_is_read() -> None:
    with pytest.raises(PayloadTooLarge):
        await body.read_json(_request(b"[" * 600, b"[" * 600), 1000)


async def test_a_body_that_is_cut_off_is_a_disconnect() -> None:
    messages: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        await body.read_json(Request(http_scope("POST", headers=[JSON]), receive), 1000)


async def test_a_body_that_does_not_come_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS", 0.01)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(RequestTimeout):
        await body.read_json(Request(http_scope("POST", headers=[JSON]), receive), 1000)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"{", BadJson),
        (b"\xff", BadJson),
        (b"NaN", InvalidJsonValue),
        (b'"\\u0000"', InvalidJsonValue),
    ],
)
async def test_json_is_parsed_strictly(raw: bytes, fault: type[TaskyardError]) -> None:
    with pytest.raises(fault):
        await _json(raw)


async def test_a_form_is_replayed_for_the_route() -> None:
    request = await body.read_form(_request(b"a=1&b=", b"x%20y", headers=[FORM]), 1000)
    assert dict(await request.form()) == {"a": "1", "b": "x y"}


@pytest.mark.parametrize("raw", [b"a=%00", b"a=\x00"])
async def test_a_form_holds_no_nul(raw: bytes) -> None:
    with pytest.raises(InvalidJsonValue):
        await body.read_form(_request(raw, headers=[FORM]), 1000)


async def test_an_upload_is_bounded_while_it_streams() -> None:
    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    request = body.watch_upload(_request(b"a" * 600, b"a" * 600, headers=headers), 1000)
    with pytest.raises(PayloadTooLarge):
        async for _ in request.stream():
            pass


def test_an_upload_must_be_multipart() -> None:
    with pytest.raises(UnsupportedMediaType):
        body.watch_upload(_request(b"", headers=[JSON]), 1000)
