"""Rows of dead letters as clients see them."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from sqlalchemy.engine import Row

from app.api.dead_letter_schemas import (
    DeadLetter,
    DeadLetterGroup,
    DeadLetterSummary,
    DeadMessage,
    Replay,
)
from app.api.links import path_to, run_links
from app.api.run_views import run_view
from app.common.redaction import redact
from app.tasks.dead_letter_queries import state_of
from app.tasks.statuses import Status

_COPIED = (
    "id",
    "run_id",
    "task",
    "queue",
    "origin",
    "error_type",
    "error_message",
    "attempts",
    "created_at",
    "replayed_at",
    "replayed_by",
    "replay_run_id",
    "discarded_at",
    "discarded_by",
    "discard_reason",
)


def summary_view(row: Row[Any], request: Request) -> DeadLetterSummary:
    """Return a letter of a list."""
    return DeadLetterSummary(**_summary(row, request))


def letter_view(
    row: Row[Any], run: Row[Any] | None, replays: Sequence[Row[Any]], request: Request
) -> DeadLetter:
    """Return one letter with all that is known of it."""
    message: Mapping[str, Any] = redact(row.message or {})
    return DeadLetter(
        **_summary(row, request),
        message=_message(message) if message else None,
        headers=message.get("headers") or {},
        death_history=message.get("death") or [],
        run=None if run is None else run_view(run, request),
        replays=[_replay(one, request) for one in replays],
    )


def group_view(row: Row[Any]) -> DeadLetterGroup:
    """Return a group."""
    return DeadLetterGroup(
        task=row.task,
        error_type=row.error_type,
        origin=row.origin,
        count=row.letters,
        replayed=row.replayed,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        last_dead_letter_id=row.last_id,
    )


def _summary(row: Row[Any], request: Request) -> dict[str, Any]:
    columns = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    own = path_to(request, f"dead-letters/{row.id}")
    links = {"self": own, "replay": f"{own}/replay"}
    if row.run_id is not None:
        links["run"] = path_to(request, f"tasks/{row.run_id}")
    return {"state": state_of(row), "links": links, **{name: columns[name] for name in _COPIED}}


def _message(message: Mapping[str, Any]) -> DeadMessage:
    # Letters of older installations have fewer members.
    return DeadMessage(**{name: message.get(name) for name in DeadMessage.model_fields})


def _replay(row: Row[Any], request: Request) -> Replay:
    return Replay(
        task_id=row.id,
        task=row.task,
        status=Status(row.status),
        created_at=row.created_at,
        created_by=row.created_by,
        links=run_links(request, row.id),
    )
