"""What a plain Celery producer sends: a task message with arguments, made by Celery itself.

Celery puts an `origin` header on every message that it sends and we put none, so a wake-up is
never taken for a call. What a call asks for is read here, as strictly as a request's body, and
travels to the worker's process in one header; the message's own body is dropped.
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from app.celery_worker.dead_letters import plain
from app.celery_worker.messages import CONTENT_TYPE, BadMessage
from app.celery_worker.topology import HIGH_PRIORITY, LOW_PRIORITY
from app.common import strict_json
from app.common.errors import TaskyardError
from app.common.ids import parse_id
from app.common.tracing import current_trace, new_trace
from app.tasks.plain_calls import PlainCall

HEADER: Final = "plain_call"
_EMBEDDED: Final = ("callbacks", "errbacks", "chain", "chord")
# Beside the parameters a body holds the names and the frame around them.
_FRAME_BYTES: Final = 16 * 1024
_LONGEST_LABEL: Final = 255
# Of an id that is no UUID the run's id is made, the same for each delivery.
_IDS: Final = uuid.UUID("6f0dbe0c-32b7-5d0c-9a38-4d9a1c3f6a57")


def is_plain_call(headers: Mapping[str, Any]) -> bool:
    """Return whether Celery has made the message, and not this project."""
    return isinstance(headers.get("origin"), str)


def read_call(message: Any, largest_params: int) -> dict[str, Any]:
    """Return the headers of the message as the worker takes it; BadMessage says what is wrong.

    The task's own id is kept when it is a UUID of any version.
    """
    headers = message.headers
    args, kwargs = _arguments(message, largest_params)
    sender_id = headers["id"]
    labels = {"celery.origin": _label(headers["origin"])}
    try:
        run_id = parse_id(sender_id)
    except ValueError:
        run_id = str(uuid.uuid5(_IDS, plain(sender_id)))
        labels["celery.id"] = _label(sender_id)
    return {
        "lang": "py",
        "task": headers["task"],
        "id": run_id,
        "root_id": run_id,
        "ignore_result": True,
        "retries": 0,
        "timelimit": [None, None],
        HEADER: {
            "args": args,
            "kwargs": kwargs,
            "run_at": _moment(headers, "eta"),
            "expires_at": _moment(headers, "expires"),
            "labels": labels,
        },
    }


def call_of(
    header: Mapping[str, Any], *, run_id: str, task: str, queue: str | None, priority: int
) -> PlainCall:
    """Return what the header of a taken message says; `queue` is None for the default one."""
    run_at, expires_at = header["run_at"], header["expires_at"]
    is_urgent = priority >= HIGH_PRIORITY or priority <= LOW_PRIORITY
    return PlainCall(
        run_id=run_id,
        task=task,
        args=header["args"],
        kwargs=header["kwargs"],
        # Whoever sends to a queue of its own means it; the default one means the task's.
        queue=queue,
        priority=priority if is_urgent else None,
        run_at=None if run_at is None else datetime.fromisoformat(run_at),
        expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
        labels=header["labels"],
        trace_id=(current_trace() or new_trace()).trace_id,
    )


def _arguments(message: Any, largest_params: int) -> tuple[list[Any], dict[str, Any]]:
    if message.content_type != CONTENT_TYPE:
        raise BadMessage(f"its content type is {str(message.content_type)[:100]!r}, not JSON")
    body = message.body
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body or b"")
    if len(raw) > largest_params + _FRAME_BYTES:
        raise BadMessage(f"its body has {len(raw)} bytes")
    try:
        parts = strict_json.loads(raw)
    except TaskyardError as error:
        raise BadMessage(f"its body cannot be read: {error.detail}") from None
    match parts:
        case [list() as args, dict() as kwargs, dict() | None as embedded]:
            _refuse_canvas(embedded or {})
            return args, kwargs
    raise BadMessage("its body is not [args, kwargs, embed]")


def _refuse_canvas(embedded: Mapping[str, Any]) -> None:
    # What would come after the run must not be lost in silence.
    for name in _EMBEDDED:
        if embedded.get(name):
            raise BadMessage(f"it carries {name}, which a run does not call")


def _moment(headers: Mapping[str, Any], name: str) -> str | None:
    value = headers.get(name)
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat()
    except (TypeError, ValueError, OverflowError):
        raise BadMessage(f"its {name} is not a time") from None


def _label(value: Any) -> str:
    return str(plain(value))[:_LONGEST_LABEL]
