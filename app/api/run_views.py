"""Rows of runs as clients see them."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from sqlalchemy.engine import Row

from app.api.links import run_links
from app.api.schemas import Run, RunError, RunEvent, RunLogLine, RunProgress
from app.tasks.statuses import Status

_COPIED = (
    "task",
    "task_version",
    "params",
    "result",
    "attempt",
    "max_attempts",
    "priority",
    "queue",
    "labels",
    "created_by",
    "parent_id",
    "batch_id",
    "replay_of",
    "schedule_id",
    "trace_id",
    "created_at",
    "scheduled_for",
    "started_at",
    "finished_at",
    "updated_at",
    "dead_letter_id",
)


def run_view(row: Row[Any], request: Request) -> Run:
    """Return a run; a result that lies on the storage is behind its link."""
    columns = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    return Run(
        task_id=row.id,
        status=Status(row.status),
        error=_error(row.error),
        progress=_progress(row.progress),
        result_stored=row.result_ref is not None,
        links=run_links(request, row.id),
        **{name: columns[name] for name in _COPIED},
    )


def event_view(row: Row[Any]) -> RunEvent:
    """Return a transition."""
    return RunEvent(
        at=row.at,
        from_status=Status(row.from_status) if row.from_status else None,
        to_status=Status(row.to_status),
        attempt=row.attempt,
        actor=row.actor,
        worker=row.worker,
        detail=row.detail,
    )


def log_view(row: Row[Any]) -> RunLogLine:
    """Return a log line."""
    return RunLogLine(
        at=row.at, attempt=row.attempt, level=row.level, message=row.message, fields=row.fields
    )


def _error(error: Mapping[str, Any] | None) -> RunError | None:
    if error is None:
        return None
    return RunError(
        type=str(error.get("type", "")),
        message=str(error.get("message", "")),
        retryable=bool(error.get("retryable", False)),
    )


def _progress(progress: Mapping[str, Any] | None) -> RunProgress | None:
    if progress is None:
        return None
    return RunProgress(
        current=progress["current"],
        total=progress.get("total"),
        message=progress.get("message"),
    )
