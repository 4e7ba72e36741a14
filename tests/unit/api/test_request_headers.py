import pytest
from fastapi import Request

from app.api.request_headers import read_idempotency_key, read_wait_seconds
from app.tasks.errors import InvalidIdempotencyKey
from tests.unit.api.asgi import http_scope


def _request(name: bytes, *values: bytes) -> Request:
    return Request(http_scope("POST", headers=[(name, value) for value in values]))


@pytest.mark.parametrize(
    "key", [b"a", b"a" * 255, b"8e03978e-40d5-43e8-bc93-6894a57f9324", b'"quoted"']
)
async def test_a_good_key_is_read(key: bytes) -> None:
    assert await read_idempotency_key(_request(b"idempotency-key", key)) == key.decode()


async def test_no_key_is_none() -> None:
    assert await read_idempotency_key(_request(b"idempotency-key")) is None


@pytest.mark.parametrize(
    "values", [[b""], [b"a" * 256], [b"a\x01b"], [b"caf\xe9"], [b"a", b"b"], [b"a", b"a"]]
)
async def test_a_bad_key_is_refused(values: list[bytes]) -> None:
    with pytest.raises(InvalidIdempotencyKey):
        await read_idempotency_key(_request(b"idempotency-key", *values))


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([b"wait=10"], 10),
        ([b"Wait = 5"], 5),
        ([b"respond-async, wait=7; x=y"], 7),
        ([b"return=minimal", b"wait=3"], 3),
        ([b"wait=31"], 30),
        ([b"wait=999999999"], 30),
        ([b"wait=99999999999999999999"], 0),
        ([b"wait=-1"], 0),
        ([b"wait=NaN"], 0),
        ([b"wait"], 0),
        ([], 0),
    ],
)
async def test_the_wait_is_bounded(values: list[bytes], seconds: int) -> None:
    assert await read_wait_seconds(_request(b"prefer", *values)) == seconds
