"""Reading schedules and their firings, within what the caller may see."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from app.common.ids import parse_id
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.requests import Caller
from app.tasks.run_lists import Page
from app.tasks.runs import decode_cursor, encode_cursor
from app.tasks.schedule_errors import ScheduleHasChanged, ScheduleNotFound
from app.tasks.schedule_models import ScheduleFiring, StoredSchedule

_SCHEDULE = StoredSchedule.__table__.c
_FIRING = ScheduleFiring.__table__.c


@dataclass(frozen=True, kw_only=True)
class ScheduleFilters:
    """What a list of schedules is narrowed to; every filter that is given must hold."""

    task: str | None = None
    name: str | None = None
    kind: Literal["api", "code"] | None = None
    is_active: bool | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions of the filters that are given."""
        given = {"task": self.task, "name": self.name, "kind": self.kind}
        found = [_SCHEDULE[name] == value for name, value in given.items() if value is not None]
        if self.is_active is not None:
            found.append(_SCHEDULE.is_active.is_(self.is_active))
        return found


class ScheduleQueries:
    """Looks schedules up."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def get(self, schedule_id: str, principal: Caller) -> Row[Any]:
        """Return a schedule; ScheduleNotFound when there is none that the caller may see."""
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            return await self._find(connection, schedule_id, principal, locks=False)

    async def list(
        self, filters: ScheduleFilters, limit: int, cursor: str | None, principal: Caller
    ) -> Page:
        """Return schedules, newest first; InvalidCursor for a cursor that this list did not
        make.
        """
        statement = (
            select(StoredSchedule.__table__)
            .where(visible_to(principal), *filters.conditions())
            .order_by(_SCHEDULE.id.desc())
            .limit(limit + 1)
        )
        if cursor is not None:
            statement = statement.where(_SCHEDULE.id < decode_cursor(cursor))
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            rows = list((await connection.execute(statement)).all())
        more = len(rows) > limit
        return Page(rows[:limit], encode_cursor(rows[limit - 1].id) if more else None)

    async def firings(
        self, schedule_id: str, limit: int, before: int | None, principal: Caller
    ) -> Page:
        """Return what became of the fire times, newest first; the cursor is a firing's number."""
        schedule = await self.get(schedule_id, principal)
        statement = (
            select(ScheduleFiring.__table__)
            .where(_FIRING.schedule_id == schedule.id)
            .order_by(_FIRING.id.desc())
            .limit(limit + 1)
        )
        if before is not None:
            statement = statement.where(_FIRING.id < before)
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            rows = list((await connection.execute(statement)).all())
        more = len(rows) > limit
        return Page(rows[:limit], str(rows[limit - 1].id) if more else None)

    async def _lock(
        self,
        connection: AsyncConnection,
        schedule_id: str,
        principal: Caller,
        unless_changed_since: datetime | None = None,
    ) -> Row[Any]:
        row = await self._find(connection, schedule_id, principal, locks=True)
        if unless_changed_since is not None and row.updated_at != unless_changed_since:
            raise ScheduleHasChanged(
                "The schedule was changed since you looked at it.",
                hint="Get it again, and change it with its new updated_at.",
            )
        return row

    async def _find(
        self, connection: AsyncConnection, schedule_id: str, principal: Caller, *, locks: bool
    ) -> Row[Any]:
        statement = select(StoredSchedule.__table__).where(
            _SCHEDULE.id == canonical_id(schedule_id), visible_to(principal)
        )
        if locks:
            statement = statement.with_for_update()
        row = (await connection.execute(statement)).one_or_none()
        if row is None:
            raise ScheduleNotFound("No schedule has this id.")
        return row


def canonical_id(text: str) -> str:
    """Return the id as the database knows it; ScheduleNotFound for what is no id."""
    try:
        return parse_id(text)
    except ValueError:
        raise ScheduleNotFound("No schedule has this id.") from None


def visible_to(principal: Caller) -> ColumnElement[bool]:
    """Return the condition for the caller's own tenant."""
    if principal.tenant is None:
        return _SCHEDULE.tenant.is_(None)
    return _SCHEDULE.tenant == principal.tenant
