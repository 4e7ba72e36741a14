import pytest
from hypothesis import given
from hypothesis.strategies import lists, sampled_from

from app.common import redaction
from app.common.redaction import MASK, is_secret_key, mask_text, redact

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+asyncpg://app:hunter2@db/app",
        "cannot reach amqp://guest:hunter2@broker:5672//vhost, giving up",
        "redis://:hunter2@cache:6379/0",
        "mysql://u:hunter2@a/b and http://v:hunter2@c/d",
        "https://user:p@hunter2@host/x",
        "postgresql://db/app?user=a&password=hunter2",
        "https://host/cb?token=hunter2#top",
        "Authorization: Bearer hunter2hunter2",
        "authorization: bearer hunter2-hunter2",
        "Basic aHVudGVyMjpodW50ZXIy hunter2"[:-8],
    ],
)
def test_secrets_in_text_are_masked(text: str) -> None:
    masked = mask_text(text)
    assert "hunter2" not in masked
    assert "aHVudGVyMjpodW50ZXIy" not in masked
    assert MASK in masked


def test_a_token_is_masked_wherever_it_stands() -> None:
    assert mask_text(f"the header was {JWT}, sent by x") == f"the header was {MASK}, sent by x"
    assert mask_text(f"Bearer {JWT}") == f"Bearer {MASK}"


def test_the_rest_of_a_url_stays_readable() -> None:
    masked = mask_text("postgresql+asyncpg://app:hunter2@db:5432/app?ssl=require")
    assert masked == f"postgresql+asyncpg://app:{MASK}@db:5432/app?ssl=require"


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8000/docs",
        "http://host:80/path, mail a@b.example",
        "sqlite+aiosqlite:///.taskyard/app.db",
        "file:///mnt/share",
        "Basic authentication failed",
        "a basic understanding of queues",
        "the eye sees eyJ",
        "lint.sql failed: line 3, column 7",
        "?page=2&q=password",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert mask_text(text) == text


_PARTS = (
    *("://", "u:p@", "@", "=", "?token", "&PWD=x", "Bearer", "bEARER ", " ", "\t", "Basic", "eyJ"),
    *("Ba\u017fic ", "aHVudGVyMjpodW50ZXIy", "hunter2hunter2", ".", "a", "Z9", "\u212a", "/", JWT),
)


@given(lists(sampled_from(_PARTS), max_size=12))
def test_the_quick_look_for_a_secret_never_misses_one(parts: list[str]) -> None:
    text = masked = "".join(parts)
    for pattern, instead in (
        (redaction._URL_PASSWORD, rf"\g<scheme>\g<user>:{MASK}@"),  # noqa: SLF001 - as it is without the look
        (redaction._QUERY_PASSWORD, rf"\g<name>{MASK}"),  # noqa: SLF001
        (redaction._BEARER, rf"\1 {MASK}"),  # noqa: SLF001
        (redaction._BASIC, rf"\1 {MASK}"),  # noqa: SLF001
        (redaction._JWT, MASK),  # noqa: SLF001
    ):
        masked = pattern.sub(instead, masked)
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "PASSWORD",
        "passwd",
        "db_pwd",
        "passphrase",
        "client_secret",
        "access_token",
        "refresh-token",
        "token",
        "Authorization",
        "Set-Cookie",
        "api_key",
        "apikey",
        "X-API-Key",
        "private_key",
        "privateKey",
        "credentials",
    ],
)
def test_secret_keys(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "access_token_seconds",
        "refresh_token_seconds",
        "user",
        "key",
        "pass",
        "task",
        "author",
        "url",
    ],
)
def test_keys_that_are_no_secret(key: str) -> None:
    assert not is_secret_key(key)


def test_every_depth_of_a_structure_is_redacted() -> None:
    given = {
        "user": "anna",
        "password": "hunter2",
        "nested": [{"deep": {"api_key": "hunter2", "n": 1}}, ("redis://:hunter2@h", 2)],
        "tokens": ["hunter2", {"a": "hunter2"}],
        "access_token_seconds": 900,
        "secret": None,
        7: "Bearer hunter2hunter2",
    }
    told = redact(given)
    assert told == {
        "user": "anna",
        "password": MASK,
        "nested": [{"deep": {"api_key": MASK, "n": 1}}, [f"redis://:{MASK}@h", 2]],
        "tokens": MASK,
        "access_token_seconds": 900,
        "secret": None,
        7: f"Bearer {MASK}",
    }
    assert given["password"] == "hunter2"  # a copy was made


def test_a_single_value_under_a_key() -> None:
    assert redact("hunter2", "password") == MASK
    assert redact("hunter2", "user") == "hunter2"
    assert redact(0, "token") == MASK
