"""What a worker takes from a message of ours, and why it refuses one.

Of a message that names one of our tasks only the run's id, the time limits and the trace are
read; its arguments, callbacks, delays and every other header are dropped, forged or not.
A wake-up for a task that this worker does not know is taken as well: whether it is a run's own
only the run's row can tell.
"""

import json
import math
from collections.abc import Container, Mapping
from typing import Any, Final

from celery.app import builtins

from app.celery_worker import messages
from app.celery_worker.messages import BadMessage
from app.celery_worker.plain_calls import is_plain_call, read_call
from app.celery_worker.site import UNKNOWN_TASK
from app.common.ids import parse_id

__all__ = ["BadMessage", "celery_builtins", "cleaned"]
_LARGEST_BODY: Final = 64 * 1024
_LONGEST_TRACEPARENT: Final = 200
_LONGEST_TIME_LIMIT: Final = 30 * 24 * 3600


def cleaned(
    message: Any, ours: Container[str], known: Container[str], largest_call: int | None = None
) -> Any:
    """Return the message, fit for Celery's handler; raise BadMessage for everything else.

    A message for a plain Celery task (in `known`, not in `ours`) keeps its headers and body, but
    has to have the shape of protocol 2. A wake-up for any other name goes to `UNKNOWN_TASK`.
    The call of a plain Celery producer is taken with parameters of up to `largest_call` bytes;
    without a number such a message is a wake-up like any other.
    """
    headers = message.headers
    if not isinstance(headers, dict) or not isinstance(headers.get("task"), str):
        raise BadMessage("it has no task header")
    name = headers["task"]
    is_known = name in known and name != UNKNOWN_TASK
    if not is_known and not _is_wakeup(message):
        raise BadMessage(f"no task is called {name[:200]!r}")
    if not isinstance(headers.get("id"), str):
        raise BadMessage("it has no id header")
    if is_known and name not in ours:
        _check_body(message, largest=None)
        return message
    if is_known and largest_call is not None and is_plain_call(headers):
        message.headers = read_call(message, largest_call) | _trace_of(headers)
    else:
        _check_body(message, largest=_LARGEST_BODY)
        message.headers = _own_headers(headers, is_known=is_known)
    message.body = messages.BODY
    message.content_type = messages.CONTENT_TYPE
    message.content_encoding = messages.CONTENT_ENCODING
    message._decoded_cache = None  # noqa: SLF001 - kombu has no other way to say that the body is new
    return message


def celery_builtins(app: Any) -> frozenset[str]:
    """Return the names of the tasks that Celery itself puts into every app."""
    return frozenset(
        name for name, task in app.tasks.items() if type(task).__module__ == builtins.__name__
    )


def _is_wakeup(message: Any) -> bool:
    """Return whether the message is made as our own are, whatever task it names."""
    return message.content_type == messages.CONTENT_TYPE and message.body in (
        messages.BODY,
        messages.BODY.decode(),
    )


def _own_headers(headers: Mapping[str, Any], *, is_known: bool) -> dict[str, Any]:
    try:
        run_id = parse_id(headers["id"])
    except ValueError:
        raise BadMessage("its id is not a run's id") from None
    clean: dict[str, Any] = {
        "lang": "py",
        "task": headers["task"] if is_known else UNKNOWN_TASK,
        "id": run_id,
        "root_id": run_id,
        "ignore_result": True,
        "retries": 0,
        "timelimit": _time_limits(headers.get("timelimit")),
    }
    if not is_known:
        clean["function"] = headers["task"]
    return clean | _trace_of(headers)


def _trace_of(headers: Mapping[str, Any]) -> dict[str, str]:
    traceparent = headers.get("traceparent")
    is_readable = isinstance(traceparent, str) and len(traceparent) <= _LONGEST_TRACEPARENT
    return {"traceparent": str(traceparent)} if is_readable else {}


def _time_limits(value: Any) -> list[float | None]:
    """Return [hard, soft]; a limit that is no sensible number of seconds stops the message."""
    if value is None:
        return [None, None]
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise BadMessage("its timelimit is not [hard, soft]")
    return [_seconds(part) for part in value]


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadMessage("its timelimit is not a number")
    if not math.isfinite(value) or not 0 < value <= _LONGEST_TIME_LIMIT:
        raise BadMessage("its timelimit is out of range")
    return float(value)


def _check_body(message: Any, *, largest: int | None) -> None:
    body = message.body
    if message.content_type != messages.CONTENT_TYPE:
        raise BadMessage(f"its content type is {str(message.content_type)[:100]!r}, not JSON")
    if largest is not None and len(body or b"") > largest:
        raise BadMessage(f"its body has {len(body)} bytes")
    try:
        text = (
            body
            if isinstance(body, str)
            else bytes(body).decode(_charset(message.content_encoding))
        )
        parts = json.loads(text)
    except (ValueError, TypeError, LookupError, RecursionError):
        raise BadMessage("its body is not JSON in UTF-8") from None
    if not _is_call(parts):
        raise BadMessage("its body is not [args, kwargs, embed]")


def _charset(encoding: Any) -> str:
    if encoding is not None and str(encoding).lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise LookupError(encoding)
    return "utf-8"


def _is_call(parts: Any) -> bool:
    return (
        isinstance(parts, list)
        and len(parts) == 3
        and isinstance(parts[0], list)
        and isinstance(parts[1], dict)
        and isinstance(parts[2], dict | None)
    )
