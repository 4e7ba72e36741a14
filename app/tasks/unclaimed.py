"""What becomes of a message whose run could not be claimed at once: too early, too late, doubled,
unknown, or under a limit.
"""

from enum import Enum
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Row

from app.common.metrics import DUPLICATE_DELIVERIES
from app.config.settings import APPLICATION_BIND
from app.db.types import db_now
from app.tasks.limiting import is_limited
from app.tasks.models import TaskRun
from app.tasks.requests import wakeup_of
from app.tasks.services import Services
from app.tasks.statuses import WAITING
from app.tasks.transitions import EXPIRE, HOLD_FOR_SWEEPER, apply

_RUN = TaskRun.__table__.c
# What becomes due between the claim and the look at its row comes round again after this.
_SOON_SECONDS = 0.1


class Disposition(Enum):
    """What becomes of the message."""

    DONE = "done"  # Acknowledge it.
    UNKNOWN = "unknown"  # No such run: reject it into the dead-letter queue.
    LATER = "later"  # The database cannot be asked now: send the message round again after a while.
    AGAIN = "again"  # It was not begun and nothing is charged: deliver it again at once.


class Unclaimed:
    """Looks at the rows of runs that a claim has left out."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def judge(self, run_id: str, owner: str) -> Row[Any] | Disposition:
        """Return what becomes of the message. A run under a limit is claimed here, when its limit
        lets it.
        """
        databases = self._services.databases
        statement = select(*_RUN, db_now().label("now")).where(_RUN.id == run_id)
        async with databases.autocommit(APPLICATION_BIND) as connection:
            row: Any = (await connection.execute(statement)).one_or_none()
        if row is None:
            return Disposition.UNKNOWN
        if row.status in WAITING and row.expires_at is not None and row.expires_at <= row.now:
            await apply(databases, EXPIRE, {"run_id": run_id, "actor": "worker"})
        elif (
            row.status in WAITING and row.scheduled_for is not None and row.scheduled_for > row.now
        ):
            await self._delay_again(row, (row.scheduled_for - row.now).total_seconds())
        elif is_limited(row):
            return await self._claim(row, owner) or Disposition.DONE
        elif row.status in WAITING:
            # It was early when it was claimed and is due by now. No other message comes for it.
            await self._delay_again(row, _SOON_SECONDS)
        else:
            DUPLICATE_DELIVERIES.labels(row.queue).inc()
        return Disposition.DONE

    async def _claim(self, row: Row[Any], owner: str) -> Row[Any] | None:
        values = {
            "run_id": row.id,
            "worker": owner,
            "actor": "worker",
            "lease_seconds": self._services.settings.celery.lease_seconds,
        }
        return await self._services.limiter.claim(row, values)

    async def _delay_again(self, row: Row[Any], seconds: float) -> None:
        """Send an early message round again for the rest of its delay."""
        if await self._services.transport.send([wakeup_of(row, seconds)]):
            return
        async with self._services.databases.autocommit(APPLICATION_BIND) as connection:
            await connection.execute(HOLD_FOR_SWEEPER, {"run_id": row.id})
