"""Leadership by lease: one holder per duty, the database's clock decides, `term` tells old holders
from new.
"""

from typing import Any

from sqlalchemy import case, or_
from sqlalchemy.dialects import postgresql, sqlite

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now, db_now_plus
from app.tasks.models import Lease

_LEASE = Lease.__table__.c


async def hold(databases: Databases, duty: str, holder: str, seconds: float) -> int | None:
    """Take or renew the lease of a duty in one statement; return its term, None while another holds
    it.
    """
    claim = claim_of(databases.dialect(APPLICATION_BIND), duty, holder, seconds)
    async with databases.autocommit(APPLICATION_BIND) as connection:
        return (await connection.execute(claim)).scalar_one_or_none()


def claim_of(dialect_name: str, duty: str, holder: str, seconds: float) -> Any:
    """Return the statement that takes or renews the lease and returns its term, or no row."""
    dialect = postgresql if dialect_name == "postgresql" else sqlite
    claim = dialect.insert(Lease).values(
        name=duty, holder=holder, term=1, expires_at=db_now_plus(seconds)
    )
    is_renewal = _LEASE.holder == claim.excluded.holder
    claim = claim.on_conflict_do_update(
        index_elements=["name"],
        set_={
            "holder": claim.excluded.holder,
            "expires_at": claim.excluded.expires_at,
            "term": case((is_renewal, _LEASE.term), else_=_LEASE.term + 1),
        },
        where=or_(is_renewal, _LEASE.expires_at < db_now()),
    )
    return claim.returning(_LEASE.term)
