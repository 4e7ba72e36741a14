"""Reading runs: one, a filtered list by keyset, their events and logs; and cancelling them."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.engine import Row

from app.common.ids import parse_id
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.cancelling import cancel_waiting
from app.tasks.errors import InvalidCursor, RunHasEnded, RunNotFound
from app.tasks.models import DeadLetter, TaskRun, TaskRunEvent, TaskRunLog
from app.tasks.requests import Caller
from app.tasks.run_lists import Page, RunFilters, RunLists, decode_seq, encode_seq, visible_to
from app.tasks.statuses import ENDED
from app.tasks.transitions import CANCEL_WAITING, REQUEST_CANCEL, apply

_ALL = 1_000_000
_RUN = TaskRun.__table__.c
_LOG = TaskRunLog.__table__.c


class Runs:
    """Queries on runs, each within what the caller may see: the runs of the caller's tenant."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._lists = RunLists(databases)

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
        return await self._lists.page(filters, limit, cursor, principal)

    async def events(self, run_id: str, principal: Caller) -> Sequence[Row[Any]]:
        """Return all transitions of a run in order."""
        return (await self.events_page(run_id, principal, limit=_ALL)).items

    async def logs(self, run_id: str, principal: Caller) -> Sequence[Row[Any]]:
        """Return all lines that the run's task wrote, in order."""
        return (await self.logs_page(run_id, principal, limit=_ALL)).items

    async def events_page(
        self, run_id: str, principal: Caller, *, limit: int, cursor: str | None = None
    ) -> Page:
        """Return transitions of a run in order, those behind the cursor."""
        run = await self.get(run_id, principal)
        return await self._told(run.id, TaskRunEvent.__table__, "e", limit, cursor)

    async def logs_page(
        self,
        run_id: str,
        principal: Caller,
        *,
        limit: int,
        cursor: str | None = None,
        levels: Sequence[str] = (),
    ) -> Page:
        """Return lines of the run's task in order, those behind the cursor; of `levels`, if any."""
        run = await self.get(run_id, principal)
        wanted = [_LOG.level.in_(levels)] if levels else []
        return await self._told(run.id, TaskRunLog.__table__, "l", limit, cursor, *wanted)

    async def children(self, run_id: str, principal: Caller) -> dict[str, int]:
        """Return how many children a run has, by status."""
        run = await self.get(run_id, principal)
        statement = (
            select(_RUN.status, func.count().label("runs"))
            .where(_RUN.parent_id == run.id, visible_to(principal))
            .group_by(_RUN.status)
        )
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            return {row.status: row.runs for row in await connection.execute(statement)}

    async def _told(
        self,
        run_id: str,
        table: Any,
        kind: Literal["e", "l"],
        limit: int,
        cursor: str | None,
        *wanted: ColumnElement[bool],
    ) -> Page:
        after = 0 if cursor is None else decode_seq(kind, cursor)
        statement = (
            select(table)
            .where(table.c.run_id == run_id, table.c.seq > after, *wanted)
            .order_by(table.c.seq)
            .limit(limit + 1)
        )
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            rows = list((await connection.execute(statement)).all())
        more = len(rows) > limit
        return Page(rows[:limit], encode_seq(kind, rows[limit - 1].seq) if more else None)

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

    async def cancel_waiting_with_children(self, run_id: str, principal: Caller) -> Sequence[str]:
        """Cancel a run and those that it has submitted, as far as they wait; return their ids."""
        family = or_(_RUN.id == run_id, _RUN.parent_id == run_id)
        return await cancel_waiting(self._databases, and_(family, visible_to(principal)), principal)

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


def encode_cursor(run_id: str) -> str:
    """Return an opaque cursor that stands behind the id in a list."""
    return base64.urlsafe_b64encode(f"1:{run_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """Return the id of a cursor; InvalidCursor for anything that `encode_cursor` does
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
