"""Looking at dead letters: a filtered list by keyset, groups, one with its run and replays."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, cast, func, or_, select
from sqlalchemy.engine import Row

from app.common.ids import parse_id
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.errors import DeadLetterNotFound
from app.tasks.models import DeadLetter, TaskRun
from app.tasks.requests import Caller
from app.tasks.run_lists import Page
from app.tasks.runs import decode_cursor, encode_cursor

_LETTER = DeadLetter.__table__.c
_RUN = TaskRun.__table__.c
# The message can be large and is looked at one by one.
_LISTED = [column for column in _LETTER if column is not _LETTER.message]


class LetterState(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True, kw_only=True)
class DeadLetterFilters:
    """What dead letters are narrowed to; every filter that is given must hold. Without states:
    all but the discarded ones.
    """

    task: str | None = None
    queue: str | None = None
    error_type: str | None = None
    origin: str | None = None
    since: datetime | None = None
    states: Sequence[LetterState] = ()


_IN_STATE: dict[LetterState, ColumnElement[bool]] = {
    LetterState.OPEN: and_(_LETTER.replayed_at.is_(None), _LETTER.discarded_at.is_(None)),
    LetterState.REPLAYED: and_(_LETTER.replayed_at.is_not(None), _LETTER.discarded_at.is_(None)),
    LetterState.DISCARDED: _LETTER.discarded_at.is_not(None),
}


def state_of(letter: Row[Any]) -> LetterState:
    """Return what became of the letter; what was replayed and then discarded counts as
    discarded.
    """
    if letter.discarded_at is not None:
        return LetterState.DISCARDED
    return LetterState.OPEN if letter.replayed_at is None else LetterState.REPLAYED


def visible_to(principal: Caller) -> ColumnElement[bool]:
    """Return the condition on letters that the caller may see: those of the caller's tenant."""
    if principal.tenant is None:
        return _LETTER.tenant.is_(None)
    return _LETTER.tenant == principal.tenant


def matching(filters: DeadLetterFilters, principal: Caller) -> ColumnElement[bool]:
    """Return the condition on letters that the filters ask for and the caller may see."""
    exact = {name: getattr(filters, name) for name in ("task", "queue", "error_type", "origin")}
    conditions = [_LETTER[name] == value for name, value in exact.items() if value is not None]
    if filters.since is not None:
        conditions.append(_LETTER.created_at >= filters.since)
    if filters.states:
        conditions.append(or_(*(_IN_STATE[state] for state in filters.states)))
    else:
        conditions.append(_LETTER.discarded_at.is_(None))
    return and_(visible_to(principal), *conditions)


class DeadLetterQueries:
    """Queries on dead letters, each within what the caller may see."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def list(
        self, filters: DeadLetterFilters, limit: int, cursor: str | None, principal: Caller
    ) -> Page:
        """Return letters without their messages, newest first; InvalidCursor for a foreign one."""
        statement = select(*_LISTED).where(matching(filters, principal))
        if cursor is not None:
            statement = statement.where(_LETTER.id < decode_cursor(cursor))
        rows = await self._all(statement.order_by(_LETTER.id.desc()).limit(limit + 1))
        more = len(rows) > limit
        return Page(list(rows[:limit]), encode_cursor(rows[limit - 1].id) if more else None)

    async def groups(
        self, filters: DeadLetterFilters, limit: int, cursor: str | None, principal: Caller
    ) -> Page:
        """Return groups by task, error type and origin, the one with the newest letter first.

        Each has `letters` (how many), `replayed` (of them), `first_seen`, `last_seen`, `last_id`.
        """
        # PostgreSQL before 18 has no max(uuid); as text the ids keep their order.
        last = func.max(cast(_LETTER.id, String(36)))
        statement = (
            select(
                _LETTER.task,
                _LETTER.error_type,
                _LETTER.origin,
                func.count().label("letters"),
                func.count(_LETTER.replayed_at).label("replayed"),
                func.min(_LETTER.created_at).label("first_seen"),
                func.max(_LETTER.created_at).label("last_seen"),
                last.label("last_id"),
            )
            .where(matching(filters, principal))
            .group_by(_LETTER.task, _LETTER.error_type, _LETTER.origin)
        )
        if cursor is not None:
            statement = statement.having(last < decode_cursor(cursor))
        rows = await self._all(statement.order_by(last.desc()).limit(limit + 1))
        more = len(rows) > limit
        return Page(list(rows[:limit]), encode_cursor(rows[limit - 1].last_id) if more else None)

    async def get(self, letter_id: str, principal: Caller) -> Row[Any]:
        """Return a letter with its message; DeadLetterNotFound when there is none that the caller
        may see.
        """
        try:
            canonical = parse_id(letter_id)
        except ValueError:
            raise DeadLetterNotFound("No dead letter has this id.") from None
        found = await self._all(
            select(DeadLetter.__table__).where(_LETTER.id == canonical, visible_to(principal))
        )
        if not found:
            raise DeadLetterNotFound("No dead letter has this id.")
        return found[0]

    async def run_of(self, letter: Row[Any]) -> Row[Any] | None:
        """Return the run that the letter is about, None when it has none or it is gone."""
        return None if letter.run_id is None else await self._run(letter.run_id, letter.tenant)

    async def replays_of(self, letter: Row[Any]) -> Sequence[Row[Any]]:
        """Return the runs that were made again of the letter's run, oldest first."""
        if letter.run_id is None:
            return ()
        replays = select(TaskRun.__table__).where(
            _RUN.replay_of == letter.run_id, _RUN.tenant.is_not_distinct_from(letter.tenant)
        )
        return await self._all(replays.order_by(_RUN.id))

    async def _run(self, run_id: str, tenant: str | None) -> Row[Any] | None:
        # A message can claim any id, so the run must be of the letter's own tenant.
        found = await self._all(
            select(TaskRun.__table__).where(
                _RUN.id == run_id, _RUN.tenant.is_not_distinct_from(tenant)
            )
        )
        return found[0] if found else None

    async def _all(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            rows: Sequence[Row[Any]] = (await connection.execute(statement)).all()
            return rows
