"""The audit log: who changed what and why, written in the commit of the change itself.

It only grows: this module inserts and reads, and triggers of the database refuse the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.models import AuditEntry
from app.tasks.requests import Caller

_ENTRY = AuditEntry.__table__.c


@dataclass(frozen=True, kw_only=True)
class Change:
    """What was done to one thing; `action` is `area.verb`, `detail` plain JSON."""

    action: str
    object_type: str
    object_id: str
    reason: str | None = None
    detail: Mapping[str, Any] | None = None


async def write_audit(
    connection: AsyncConnection, caller: Caller, changes: Sequence[Change]
) -> None:
    """Insert a row for each change in the open transaction; its time is the database's."""
    rows = [
        {
            "actor": caller.id,
            "tenant": caller.tenant,
            "action": change.action,
            "object_type": change.object_type,
            "object_id": change.object_id,
            "reason": change.reason,
            "detail": None if change.detail is None else dict(change.detail),
        }
        for change in changes
    ]
    if rows:
        await connection.execute(insert(AuditEntry), rows)


async def audit_of(databases: Databases, object_type: str, object_id: str) -> Sequence[Row[Any]]:
    """Return the rows about one thing, oldest first."""
    statement = (
        select(AuditEntry.__table__)
        .where(_ENTRY.object_type == object_type, _ENTRY.object_id == object_id)
        .order_by(_ENTRY.id)
    )
    async with databases.autocommit(APPLICATION_BIND) as connection:
        return (await connection.execute(statement)).all()
