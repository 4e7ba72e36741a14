"""A dead letter as facts for the archive: whatever its bytes, plain JSON that a database takes."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from app.celery_worker.messages import BODY, CONTENT_TYPE

_LONGEST_BODY: Final = 64 * 1024
_LONGEST_TEXT: Final = 4000
_MOST_ENTRIES: Final = 100
_DEEPEST: Final = 8
# Its history stands apart; how often the archive took it is not the message's matter, and would
# make two of one message that comes again after a crash.
_NOT_ITS_OWN: Final = ("x-death", "x-delivery-count")
_LARGEST_NUMBER: Final = 2**63 - 1


def facts_of(message: Any, queue_class: str) -> dict[str, Any]:
    """Return what the archive keeps of a message in a dead-letter queue.

    `run_id` and `task` are what the message says, unchecked, or None. `death` is the broker's
    history, the newest first. `body` is text, or base64 when the bytes are no UTF-8, cut at
    64 KiB; `body_bytes` is its real size and `fingerprint` the SHA-256 of all of it. `is_wakeup`
    tells that it is made as our own are, so that it can speak for its run; `redelivered` that the
    archive may have kept it before.
    """
    headers = message.headers if isinstance(message.headers, Mapping) else {}
    body = message.body
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body or b"")
    text, encoding = _readable(raw[:_LONGEST_BODY])
    death = headers.get("x-death")
    return {
        "queue": queue_class,
        "task": _text_or_none(headers.get("task")),
        "run_id": _text_or_none(headers.get("id")),
        "reason": _reason(headers, death),
        "headers": plain({name: headers[name] for name in headers if name not in _NOT_ITS_OWN}),
        "death": plain(death or []),
        "content_type": plain(message.content_type),
        "content_encoding": plain(message.content_encoding),
        "body": text,
        "body_encoding": encoding,
        "body_bytes": len(raw),
        "fingerprint": hashlib.sha256(raw).hexdigest(),
        "is_wakeup": raw == BODY and message.content_type == CONTENT_TYPE,
        "redelivered": bool((message.delivery_info or {}).get("redelivered")),
    }


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON that Postgres takes: no NUL, no lone surrogate, no NaN, bounded."""
    if depth < _DEEPEST and isinstance(value, Mapping):
        entries = list(value.items())[:_MOST_ENTRIES]
        return {_clean(str(name)): plain(entry, depth + 1) for name, entry in entries}
    if depth < _DEEPEST and isinstance(value, list | tuple):
        return [plain(entry, depth + 1) for entry in value[:_MOST_ENTRIES]]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    match value:
        case None | bool():
            return value
        case int() | float():
            return _plain_number(value)
        case bytes() | bytearray() | memoryview():
            return _readable(bytes(value)[:_LONGEST_TEXT])[0]
        case datetime():
            return value.isoformat()
        case _:
            return _clean(value if isinstance(value, str) else repr(value))


def _plain_number(value: float) -> float | str:
    return value if abs(value) <= _LARGEST_NUMBER else str(value)


def _clean(text: str) -> str:
    text = text[:_LONGEST_TEXT].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text.encode("utf-8", "replace").decode()


def _readable(raw: bytes) -> tuple[str, str]:
    """Return bytes as text and the name of its encoding, utf-8 or base64."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode(), "base64"
    if "\0" in text:
        return base64.b64encode(raw).decode(), "base64"
    return text, "utf-8"


def _text_or_none(value: Any) -> str | None:
    return _clean(value)[:200] if isinstance(value, str) else None


def _reason(headers: Mapping[str, Any], death: Any) -> str:
    """Return why the message is here: the broker's last reason, or `failed` for our own letters."""
    if isinstance(death, list) and death and isinstance(death[0], Mapping):
        return _clean(str(death[0].get("reason")))[:100]
    return "failed" if "x-error-type" in headers else "unknown"
