"""Reading runs: one, a filtered list by keyset, their events and logs; and cancelling them."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import starmap
from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, func, literal, or_, select
from sqlalchemy.engine import Row

from app.common.ids import parse_id
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.errors import InvalidCursor, RunHasEnded, RunNotFound
from app.tasks.models import DeadLetter, TaskRun, TaskRunEvent, TaskRunLog
from app.tasks.requests import Caller
from app.tasks.statuses import ENDED, Status
from app.tasks.transitions import CANCEL_WAITING, REQUEST_CANCEL, apply

_RUN = TaskRun.__table__.c
_EVENT = TaskRunEvent.__table__.c
_LOG = TaskRunLog.__table__.c


@dataclass(frozen=True, kw_only=True)
class RunFilters:
    """What a list of runs is narrowed to; every filter that is given must hold."""

    statuses: Sequence[Status] = ()
    task: str | None = None
    queue: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None
    batch_id: str | None = None
    parent_id: str | None = None
    schedule_id: str | None = None
    trace_id: str | None = None
    q: str | None = None


@dataclass(frozen=True)
class Page:
    """A part of a list, and the cursor of the next part, None at the end."""

    items: list[Row[Any]]
    next_cursor: str | None


class Runs:
    """Queries on runs, each within what the caller may see: the runs of the caller's tenant."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def get(self, run_id: str, principal: Caller) -> Row[Any]:
        """Return the row of a run; RunNotFound when there is none that the caller may see."""
        try:
            canonical = parse_id(run_id)
        except ValueError:
            raise RunNotFound("No run has this id.") from None
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            statement = select(TaskRun.__table__).where(_RUN.id == canonical, visible_to(principal))
            row = (await connection.execute(statement)).one_or_none()
        if row is None:
            raise RunNotFound("No run has this id.")
        return row

    async def list(
        self, filters: RunFilters, limit: int, cursor: str | None, principal: Caller
    ) -> Page:
        """Return runs, newest first; InvalidCursor for a cursor that this list did not make."""
        statement = self._filtered(filters).where(visible_to(principal))
        if cursor is not None:
            statement = statement.where(_RUN.id < decode_cursor(cursor))
        statement = statement.order_by(_RUN.id.desc()).limit(limit + 1)
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            rows = list((await connection.execute(statement)).all())
        more = len(rows) > limit
        return Page(rows[:limit], encode_cursor(rows[limit - 1].id) if more else None)

    async def events(self, run_id: str, principal: Caller) -> Sequence[Row[Any]]:
        """Return the transitions of a run in order."""
        run = await self.get(run_id, principal)
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            statement = (
                select(TaskRunEvent.__table__).where(_EVENT.run_id == run.id).order_by(_EVENT.id)
            )
            return (await connection.execute(statement)).all()

    async def logs(self, run_id: str, principal: Caller) -> Sequence[Row[Any]]:
        """Return the lines that the run's task wrote, in order."""
        run = await self.get(run_id, principal)
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            statement = select(TaskRunLog.__table__).where(_LOG.run_id == run.id).order_by(_LOG.id)
            return (await connection.execute(statement)).all()

    async def cancel(self, run_id: str, principal: Caller) -> Row[Any]:
        """Cancel a waiting run at once, ask a running one to stop; RunHasEnded when there is
        nothing to cancel.
        """
        run = await self.get(run_id, principal)
        while run.status not in ENDED:
            if await self._cancel_once({"run_id": run.id, "actor": principal.id}):
                return await self.get(run.id, principal)
            # Between the two statements it went from running to waiting, or it ended.
            run = await self.get(run.id, principal)
        raise RunHasEnded(f"The run ended as {run.status}.")

    async def _cancel_once(self, values: Mapping[str, Any]) -> bool:
        if await apply(self._databases, CANCEL_WAITING, values) is not None:
            return True
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            return (await connection.execute(REQUEST_CANCEL, values)).one_or_none() is not None

    async def dead_letter(self, run_id: str) -> Row[Any] | None:
        """Return the dead letter of a run, or None."""
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            statement = select(DeadLetter.__table__).where(DeadLetter.run_id == run_id)
            return (await connection.execute(statement)).one_or_none()

    def _filtered(self, filters: RunFilters) -> Select[Any]:
        exact = {
            name: getattr(filters, name)
            for name in ("task", "queue", "batch_id", "parent_id", "schedule_id", "trace_id")
        }
        conditions: list[ColumnElement[bool]] = [
            _RUN[name] == value for name, value in exact.items() if value is not None
        ]
        if filters.statuses:
            conditions.append(_RUN.status.in_(list(filters.statuses)))
        if filters.created_after is not None:
            conditions.append(_RUN.created_at >= filters.created_after)
        if filters.created_before is not None:
            conditions.append(_RUN.created_at < filters.created_before)
        if filters.labels:
            conditions.append(self._has_labels(filters.labels))
        if filters.q:
            conditions.append(_matches(filters.q))
        return select(TaskRun.__table__).where(and_(True, *conditions))  # noqa: FBT003 - and_() needs a first clause

    def _has_labels(self, labels: Mapping[str, str]) -> ColumnElement[bool]:
        if self._databases.dialect(APPLICATION_BIND) == "postgresql":
            return _RUN.labels.op("@>", is_comparison=True)(dict(labels))
        return and_(True, *starmap(_has_label, labels.items()))  # noqa: FBT003 - and_() needs a first clause


def encode_cursor(run_id: str) -> str:
    """Return an opaque cursor that stands behind the run in a list."""
    return base64.urlsafe_b64encode(f"1:{run_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """Return the run id of a cursor; InvalidCursor for anything that `encode_cursor` does
    not make.
    """
    try:
        text = base64.b64decode(
            cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        ).decode("ascii")
        version, _, run_id = text.partition(":")
        if version != "1" or encode_cursor(parse_id(run_id)) != cursor:
            raise InvalidCursor("The cursor was not made by this list.")
    except (binascii.Error, ValueError, UnicodeDecodeError):
        raise InvalidCursor("The cursor was not made by this list.") from None
    return run_id


def _has_label(name: str, value: str) -> ColumnElement[bool]:
    # Compared as keys, not as a path: a label's name may hold dots and quotes.
    pairs = func.json_each(_RUN.labels).table_valued("key", "value")
    return select(pairs.c.key).where(pairs.c.key == name, pairs.c.value == value).exists()


def visible_to(principal: Caller) -> ColumnElement[bool]:
    """Return the condition on runs that the caller may see: those of the caller's tenant."""
    return _RUN.tenant.is_(None) if principal.tenant is None else _RUN.tenant == principal.tenant


def _matches(text: str) -> ColumnElement[bool]:
    """Search in the task's name and the error's type and message; the wildcards of LIKE mean
    themselves.
    """
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return or_(
        _RUN.task.ilike(pattern, escape="\\"),
        *(
            _RUN.error.op("->>", return_type=String())(literal(part)).ilike(pattern, escape="\\")
            for part in ("type", "message")
        ),
    )
