"""What becomes of a message whose run could not be claimed at once: too early, too late, doubled,
unknown, or under a limit.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from sqlalchemy.engine import Row

from app.common.metrics import DUPLICATE_DELIVERIES
from app.config.settings import APPLICATION_BIND
from app.tasks.limiting import is_limited
from app.tasks.requests import wakeup_of
from app.tasks.services import Services
from app.tasks.statuses import WAITING
from app.tasks.transitions import EXPIRE, HOLD_FOR_SWEEPER, apply
from app.tasks.transport import seconds_until

# What becomes due between the claim and the look at its row comes round again after this.
_SOON_SECONDS = 0.1


class Disposition(Enum):
    """What becomes of the message."""

    DONE = "done"  # Acknowledge it.
    UNKNOWN = "unknown"  # No such run: reject it into the dead-letter queue.
    LATER = "later"  # The database cannot be asked now: send the message round again after a while.
    AGAIN = "again"  # It was not begun and nothing is charged: deliver it again at once.


class Unclaimed:
    """Decides about the messages of runs that a claim has left out."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def sort_out(self, run_ids: Sequence[str]) -> dict[str, Row[Any] | Disposition]:
        """Return by run what becomes of its message, or its row where `judge` has to say.

        The messages of all that are early are sent round again at once: what a broker has held
        back comes in a crowd, and who is due meanwhile must not wait for each of them.
        """
        rows = {str(row.id): row for row in self._services.hot_runs.look(run_ids)}
        found = {run_id: rows.get(run_id, Disposition.UNKNOWN) for run_id in run_ids}
        early = [rows[run_id] for run_id in run_ids if run_id in rows and _is_early(rows[run_id])]
        if early:
            delays = [(row, seconds_until(row.scheduled_for, row.now)) for row in early]
            await self._delay_again(delays)
        return found | {str(row.id): Disposition.DONE for row in early}

    async def judge(self, row: Row[Any], owner: str) -> Row[Any] | Disposition:
        """Return what becomes of the message. A run under a limit is claimed here, when its limit
        lets it.
        """
        if _is_expired(row):
            await apply(self._services.databases, EXPIRE, {"run_id": row.id, "actor": "worker"})
        elif is_limited(row):
            return await self._claim(row, owner) or Disposition.DONE
        elif row.status in WAITING:
            # It was early when it was claimed and is due by now. No other message comes for it.
            await self._delay_again([(row, _SOON_SECONDS)])
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

    async def _delay_again(self, rows: Sequence[tuple[Row[Any], float]]) -> None:
        """Send early messages round again, each for so many seconds."""
        wakeups = [wakeup_of(row, seconds) for row, seconds in rows]
        sent = await self._services.transport.send(wakeups)
        left = [wakeup.run_id for wakeup in wakeups if wakeup.run_id not in sent]
        if left:
            async with self._services.databases.autocommit(APPLICATION_BIND) as connection:
                for run_id in left:
                    await connection.execute(HOLD_FOR_SWEEPER, {"run_id": run_id})


def _is_expired(row: Row[Any]) -> bool:
    return row.status in WAITING and row.expires_at is not None and row.expires_at <= row.now


def _is_early(row: Row[Any]) -> bool:
    if row.status not in WAITING or _is_expired(row):
        return False
    return row.scheduled_for is not None and row.scheduled_for > row.now
