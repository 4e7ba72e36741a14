"""Marking rows whose message the broker has confirmed: many at once."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ARRAY, BigInteger, bindparam, column, func, update

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.driver import fetch, text_of
from app.db.types import IdType, db_now
from app.tasks.models import TaskRun
from app.tasks.transitions import MARK_PUBLISHED
from app.tasks.transport import Wakeup

_RUN = TaskRun.__table__.c
_SENT = (
    func.unnest(
        bindparam("run_ids", type_=ARRAY(IdType)), bindparam("fences", type_=ARRAY(BigInteger))
    )
    .table_valued(column("id", IdType), column("fence", BigInteger))
    .render_derived("sent")
)
MARK_MANY: Final = text_of(
    update(TaskRun)
    .where(_RUN.id == _SENT.c.id, _RUN.fence == _SENT.c.fence, _RUN.published_at.is_(None))
    .values(published_at=db_now(), updated_at=db_now())
)


async def mark_published(databases: Databases, sent: Sequence[Wakeup]) -> None:
    """Mark the rows as published, unless an attempt was made since their message was."""
    if not sent:
        return
    # In the order of the ids: two such statements never wait for each other.
    ordered = sorted(sent, key=lambda wakeup: wakeup.run_id)
    if databases.dialect(APPLICATION_BIND) == "postgresql":
        ids, fences = [one.run_id for one in ordered], [one.fence for one in ordered]
        await fetch(databases, APPLICATION_BIND, MARK_MANY, ids, fences)
        return
    marks = [{"run_id": one.run_id, "held_fence": one.fence} for one in ordered]
    async with databases.begin(APPLICATION_BIND) as connection:
        await connection.execute(MARK_PUBLISHED, marks)
