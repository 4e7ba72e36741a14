"""What there is to do, asked in one statement: an idle system asks seldom and yet is in time.

The statement also takes or renews the lease of the sweeper's duty, so that a beat that has nothing
to do sends nothing else.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    false,
    func,
    literal_column,
    null,
    select,
)

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now
from app.tasks.leadership import claim_of, hold
from app.tasks.lines import IS_HELD
from app.tasks.models import Lease, TaskRun
from app.tasks.schedule_models import StoredSchedule

DUTY: Final = "sweeper"
LEASE_SECONDS: Final = 10.0
_RUN: Final = TaskRun.__table__.c
_LEASE: Final = Lease.__table__.c
_SCHEDULE: Final = StoredSchedule.__table__.c
# Written out, not bound: a partial index serves only a condition that the planner can read.
IS_RUNNING: Final[ColumnElement[bool]] = literal_column("status = 'RUNNING'")
IS_WAITING: Final[ColumnElement[bool]] = literal_column(
    "status IN ('PENDING', 'SCHEDULED', 'RETRYING')"
)
IS_UNPUBLISHED: Final = and_(_RUN.published_at.is_(None), _RUN.finished_at.is_(None), IS_WAITING)
IS_EXPIRING: Final = and_(_RUN.expires_at.is_not(None), _RUN.finished_at.is_(None), IS_WAITING)
# With nothing to do, so many intervals pass until the next look.
_IDLE_INTERVALS: Final = 3
# A schedule is fired on time, but a beat with many of them looks at most so often per interval.
_LOOKS_PER_INTERVAL: Final = 5


@dataclass(frozen=True, kw_only=True)
class Agenda:
    """What one look has found; the moments are the earliest of their kind, None for none.

    `term` is that of the sweeper's duty, None while another holds it, until `leads_until`.
    """

    now: datetime
    term: int | None = None
    leads_until: datetime | None = None
    fires_at: datetime | None = None
    lost_at: datetime | None = None
    expires_at: datetime | None = None
    has_unpublished: bool = False
    has_overdue: bool = False
    has_held: bool = False

    def is_due(self, moment: datetime | None) -> bool:
        """Return whether the moment is there and has come."""
        return moment is not None and moment <= self.now

    def seconds_until_next(self, interval: float) -> float:
        """Return after how long to look again; `interval` is the pause while there is work."""
        # The lease of the duty must not run out between two looks.
        idle = max(interval, min(_IDLE_INTERVALS * interval, LEASE_SECONDS / _IDLE_INTERVALS))
        if self.term is None:
            sweep = self._wait_for(interval, self.leads_until)
        elif self.has_unpublished or self.has_overdue or self.has_held:
            sweep = interval
        else:
            sweep = self._wait_for(interval, self.lost_at, self.expires_at)
        return min(idle, sweep, self._wait_for(interval / _LOOKS_PER_INTERVAL, self.fires_at))

    def _wait_for(self, least: float, *moments: datetime | None) -> float:
        waits = [(moment - self.now).total_seconds() for moment in moments if moment is not None]
        return max(least, min(waits, default=float("inf")))


async def look(
    databases: Databases, holder: str, is_overdue: ColumnElement[bool], *, asks_overdue: bool
) -> Agenda:
    """Take or renew the duty and return what there is to do.

    `is_overdue` is looked for only when `asks_overdue`: it can take long with many delayed runs.
    """
    values = {"asks_overdue": asks_overdue}
    if databases.dialect(APPLICATION_BIND) == "postgresql":
        claim = claim_of("postgresql", DUTY, holder, LEASE_SECONDS).cte("claim")
        term: Any = select(claim.c.term).scalar_subquery()
        statement = _questions(holder, is_overdue).add_columns(term.label("term"))
    else:
        held = await hold(databases, DUTY, holder, LEASE_SECONDS)
        term = null() if held is None else literal_column(str(held))
        statement = _questions(holder, is_overdue).add_columns(term.label("term"))
    async with databases.autocommit(APPLICATION_BIND) as connection:
        row = (await connection.execute(statement, values)).one()
    return Agenda(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it


def _questions(holder: str, is_overdue: ColumnElement[bool]) -> Select[Any]:
    overdue = select(_RUN.id).where(is_overdue).exists()
    asks = bindparam("asks_overdue", type_=Boolean)
    return select(
        db_now().label("now"),
        select(_LEASE.expires_at)
        .where(_LEASE.name == DUTY, _LEASE.holder != holder)
        .scalar_subquery()
        .label("leads_until"),
        select(func.min(_SCHEDULE.next_fire_at)).scalar_subquery().label("fires_at"),
        select(func.min(_RUN.lease_expires_at))
        .where(IS_RUNNING)
        .scalar_subquery()
        .label("lost_at"),
        select(func.min(_RUN.expires_at)).where(IS_EXPIRING).scalar_subquery().label("expires_at"),
        select(_RUN.id).where(IS_UNPUBLISHED).exists().label("has_unpublished"),
        # Not evaluated at all unless it is asked for.
        case((asks, overdue), else_=false()).label("has_overdue"),
        select(_RUN.id).where(IS_HELD).exists().label("has_held"),
    )
