"""What must never be shown: values under secret-looking keys, and passwords inside URLs."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

MASK = "**********"
_SHORT_KEY = 64
_SECRET_KEY = re.compile(
    r"passw(or)?d|pwd|passphrase|secret|token(?!_seconds)|authorization|cookie"
    r"|api[_-]?key|private[_-]?key|credential",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>[^\s:/@]*):(?P<password>[^\s/]+)@", re.IGNORECASE
)
_QUERY_PASSWORD = re.compile(
    r"(?P<name>[?&](?:password|passwd|pwd|token|secret)=)[^\s&#]+", re.IGNORECASE
)
_BEARER = re.compile(r"\b(Bearer)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
# "Basic" is a word of English too: only what looks like base64 of a name and a password is masked.
_BASIC = re.compile(r"\b((?i:Basic))\s+(?=\S*(?:[0-9=+/]|[a-z][A-Z]))[A-Za-z0-9+/=_-]{8,}")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


def is_secret_key(key: str) -> bool:
    """Return whether a value under this name must be masked."""
    # The names of log fields are few; a caller's own can be of any length, and many.
    return _is_short_secret_key(key) if len(key) <= _SHORT_KEY else bool(_SECRET_KEY.search(key))


@lru_cache(1024)
def _is_short_secret_key(key: str) -> bool:
    return bool(_SECRET_KEY.search(key))


def mask_text(text: str) -> str:
    """Return the text without passwords in URLs, bearer tokens and JWTs."""
    # Most texts of a log lack what every secret of the kind has, and a look for that is cheap.
    if "://" in text and "@" in text:
        text = _URL_PASSWORD.sub(rf"\g<scheme>\g<user>:{MASK}@", text)
    if "=" in text:
        text = _QUERY_PASSWORD.sub(rf"\g<name>{MASK}", text)
    if _may_hold(text, "bearer"):
        text = _BEARER.sub(rf"\1 {MASK}", text)
    if _may_hold(text, "basic"):
        text = _BASIC.sub(rf"\1 {MASK}", text)
    return _JWT.sub(MASK, text) if "eyJ" in text else text


def _may_hold(text: str, word: str) -> bool:
    # Beyond ASCII a pattern finds letters that `lower` does not give, like the long s.
    return not text.isascii() or word in text.lower()


def redact(value: Any, key: str = "") -> Any:
    """Return a copy of the structure in which every secret is masked."""
    if key and value is not None and is_secret_key(key):
        return MASK
    if isinstance(value, str):
        return mask_text(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {name: redact(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value
