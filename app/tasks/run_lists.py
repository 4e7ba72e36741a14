"""Lists of runs, newest first, at a cost that does not grow with the table.

Each list walks one index from the cursor on. Where several statuses are asked for, or none behind
a task or a queue, it walks one index range per status and merges the heads: the database itself
would read and sort all of them. A search reads a bounded number of rows for each page.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import starmap
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    and_,
    func,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.engine import Row

from app.common.clock import rfc3339
from app.common.ids import parse_id
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import IdType, UTCDateTime
from app.tasks.errors import InvalidCursor
from app.tasks.models import TaskRun
from app.tasks.requests import Caller
from app.tasks.statuses import Status

SEARCH_WINDOW = 10_000
_RUNS = TaskRun.__table__
_RUN = _RUNS.c
_NEWEST_FIRST = (_RUN.created_at.desc(), _RUN.id.desc())
# Each of them narrows a list to a few runs, so the rest is filtered.
_SELECTIVE = ("batch_id", "parent_id", "schedule_id", "trace_id")
_HAS_SOME_LABEL: ColumnElement[bool] = literal_column("labels <> '{}'::jsonb")


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


class RunLists:
    """Makes the pages; `search_window` is how many runs a search looks at for one page."""

    def __init__(self, databases: Databases, *, search_window: int = SEARCH_WINDOW) -> None:
        self._databases = databases
        self._window = search_window

    async def page(
        self, filters: RunFilters, limit: int, cursor: str | None, principal: Caller
    ) -> Page:
        """Return runs, newest first; InvalidCursor for a cursor that this list did not make.

        With `q` a page may be short, even empty, and have a next one all the same.
        """
        statement = self.statement(filters, cursor, principal, self._read(filters, limit))
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            if not filters.q:
                rows = list((await connection.execute(statement)).all())
                return _page(rows, limit)
            seen = statement.subquery()
            found = select(seen).where(_matches(seen.c, filters.q))
            found = found.order_by(seen.c.created_at.desc(), seen.c.id.desc()).limit(limit + 1)
            rows = list((await connection.execute(found)).all())
            if len(rows) > limit:
                return _page(rows, limit)
            last = select(seen.c.created_at, seen.c.id)
            last = last.order_by(seen.c.created_at.desc(), seen.c.id.desc())
            end = (await connection.execute(last.offset(self._window - 1).limit(1))).one_or_none()
        return Page(rows, None if end is None else encode_place(end.created_at, end.id))

    def statement(
        self, filters: RunFilters, cursor: str | None, principal: Caller, limit: int
    ) -> Select[Any]:
        """Return the query of at most `limit` runs behind the cursor."""
        here = and_(visible_to(principal), *self._conditions(filters))
        if cursor is not None:
            created_at, run_id = decode_place(cursor)
            behind = tuple_(literal(created_at, UTCDateTime), literal(run_id, IdType))
            here = and_(here, tuple_(_RUN.created_at, _RUN.id) < behind)
        heads = [
            select(_RUNS).where(here, *one).order_by(*_NEWEST_FIRST).limit(limit)
            for one in _ranges(filters)
        ]
        if len(heads) == 1:
            return heads[0]
        merged = union_all(*(select(head.subquery()) for head in heads)).subquery()
        newest_first = (merged.c.created_at.desc(), merged.c.id.desc())
        return select(merged).order_by(*newest_first).limit(limit)

    def _read(self, filters: RunFilters, limit: int) -> int:
        return self._window if filters.q else limit + 1

    def _conditions(self, filters: RunFilters) -> list[ColumnElement[bool]]:
        exact = {name: getattr(filters, name) for name in ("task", "queue", *_SELECTIVE)}
        conditions = [_RUN[name] == value for name, value in exact.items() if value is not None]
        if filters.created_after is not None:
            conditions.append(_RUN.created_at >= filters.created_after)
        if filters.created_before is not None:
            conditions.append(_RUN.created_at < filters.created_before)
        if filters.labels:
            conditions.append(self._has_labels(filters.labels))
        return conditions

    def _has_labels(self, labels: Mapping[str, str]) -> ColumnElement[bool]:
        if self._databases.dialect(APPLICATION_BIND) == "postgresql":
            # The index leaves runs without labels out, and the planner has to be told so.
            contains = _RUN.labels.op("@>", is_comparison=True)(dict(labels))
            return and_(contains, _HAS_SOME_LABEL)
        return and_(True, *starmap(_has_label, labels.items()))  # noqa: FBT003 - and_() needs a first clause


def visible_to(principal: Caller) -> ColumnElement[bool]:
    """Return the condition on runs that the caller may see: those of the caller's tenant."""
    return _RUN.tenant.is_(None) if principal.tenant is None else _RUN.tenant == principal.tenant


def _ranges(filters: RunFilters) -> list[list[ColumnElement[bool]]]:
    """Return the conditions on the status, one for each index range that is walked."""
    statuses = list(dict.fromkeys(filters.statuses))
    if any(getattr(filters, name) is not None for name in _SELECTIVE):
        return [[_RUN.status.in_(statuses)] if statuses else []]
    if not statuses and (filters.task is not None or filters.queue is not None):
        statuses = list(Status)
    return [[_RUN.status == status] for status in statuses] or [[]]


def _page(rows: list[Row[Any]], limit: int) -> Page:
    last = rows[limit - 1] if len(rows) > limit else None
    return Page(rows[:limit], None if last is None else encode_place(last.created_at, last.id))


def encode_place(created_at: datetime, run_id: str) -> str:
    """Return an opaque cursor that stands behind the run in a list."""
    return _encode("2", rfc3339(created_at), run_id)


def decode_place(cursor: str) -> tuple[datetime, str]:
    """Return the moment and the id in a cursor; InvalidCursor unless `encode_place` made it."""
    try:
        moment, _, run_id = _decode("2", cursor).partition("|")
        place = datetime.fromisoformat(moment), parse_id(run_id)
        if encode_place(*place) != cursor:
            raise InvalidCursor("The cursor was not made by this list.")
    except ValueError:
        raise InvalidCursor("The cursor was not made by this list.") from None
    return place


def encode_seq(kind: Literal["e", "l"], seq: int) -> str:
    """Return an opaque cursor that stands behind an event or a line of a run."""
    return _encode(kind, str(seq))


def decode_seq(kind: Literal["e", "l"], cursor: str) -> int:
    """Return the number in a cursor; InvalidCursor unless `encode_seq` made it."""
    try:
        seq = int(_decode(kind, cursor))
        if encode_seq(kind, seq) != cursor or seq >= 2**63:
            raise InvalidCursor("The cursor was not made by this list.")
    except ValueError:
        raise InvalidCursor("The cursor was not made by this list.") from None
    return seq


def _encode(version: str, *parts: str) -> str:
    told = f"{version}|{'|'.join(parts)}".encode()
    return base64.urlsafe_b64encode(told).decode().rstrip("=")


def _decode(version: str, cursor: str) -> str:
    """Return what is behind the version; ValueError for anything else."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    found, _, told = raw.decode("ascii").partition("|")
    if found != version:
        raise ValueError(found)
    return told


def _has_label(name: str, value: str) -> ColumnElement[bool]:
    # Compared as keys, not as a path: a label's name may hold dots and quotes.
    pairs = func.json_each(_RUN.labels).table_valued("key", "value")
    return select(pairs.c.key).where(pairs.c.key == name, pairs.c.value == value).exists()


def _matches(run: Any, words: str) -> ColumnElement[bool]:
    """Search in the task's name and the error's type and message; the wildcards of LIKE mean
    themselves.
    """
    pattern = "%" + words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return or_(
        run.task.ilike(pattern, escape="\\"),
        *(
            run.error.op("->>", return_type=String())(literal(part)).ilike(pattern, escape="\\")
            for part in ("type", "message")
        ),
    )
