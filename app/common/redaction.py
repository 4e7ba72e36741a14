"""What must never be shown: values under secret-looking keys, and passwords inside URLs."""

import re
from collections.abc import Mapping
from typing import Any

MASK = "**********"
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
    return bool(_SECRET_KEY.search(key))


def mask_text(text: str) -> str:
    """Return the text without passwords in URLs, bearer tokens and JWTs."""
    text = _URL_PASSWORD.sub(rf"\g<scheme>\g<user>:{MASK}@", text)
    text = _QUERY_PASSWORD.sub(rf"\g<name>{MASK}", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    text = _BASIC.sub(rf"\1 {MASK}", text)
    return _JWT.sub(MASK, text)


def redact(value: Any, key: str = "") -> Any:
    """Return a copy of the structure in which every secret is masked."""
    if key and value is not None and is_secret_key(key):
        return MASK
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        return {name: redact(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value
