"""Writing several new runs in one commit: their rows and their first events.

On PostgreSQL it is one statement, whose one argument is the runs as JSON. On SQLite, which one
process writes to, they are written one by one in one transaction.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Float,
    Select,
    Text,
    bindparam,
    cast,
    column,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql

from app.common.strict_json import dumps
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.driver import fetch, text_of
from app.db.types import JsonType, UTCDateTime, db_now, db_now_plus
from app.tasks.insertion import insert_run
from app.tasks.models import TaskRun, TaskRunEvent
from app.tasks.requests import NewRun
from app.tasks.transport import seconds_until

_RUN: Final = TaskRun.__table__.c
# What `RunMaker.make` fills in; every other column begins with its default.
COLUMNS: Final = (
    "id", "task", "function", "task_version", "status", "params", "options", "labels",
    "max_attempts", "queue", "priority", "expires_at", "limit_key", "unique_key", "created_by",
    "tenant", "parent_id", "batch_id", "replay_of", "trace_id", "retention_days",
)  # fmt: skip
_ZERO: Final = ("attempt", "fence")


class Inserted(NamedTuple):
    """What the database knows of a run that it has written."""

    created_at: datetime
    scheduled_for: datetime | None
    now: datetime

    @property
    def delay_seconds(self) -> float:
        """The time until the run is due."""
        return seconds_until(self.scheduled_for, self.now)


async def insert_together(databases: Databases, runs: Sequence[NewRun]) -> dict[str, Inserted]:
    """Insert runs, none of which is unique, in one commit; return what was written, by id.

    A run whose id is used is left out, or RunAlreadyExists is raised for all of them. When this
    raises nothing was written, unless the connection broke in the middle of the commit.
    """
    if databases.dialect(APPLICATION_BIND) == "postgresql":
        records = await fetch(databases, APPLICATION_BIND, INSERT_RUNS, dumps(_given(runs)))
        return {identity: Inserted(*rest) for identity, *rest in records}
    async with databases.begin(APPLICATION_BIND) as connection:
        rows = [await insert_run(connection, run, actor=run.row["created_by"]) for run in runs]
    return {row.id: Inserted(row.created_at, row.scheduled_for, row.now) for row in rows}


def _given(runs: Sequence[NewRun]) -> list[dict[str, Any]]:
    return [{**run.row, "run_at": run.run_at, "delay_seconds": run.delay_seconds} for run in runs]


def _insert_runs() -> Select[Any]:
    given = (
        func.json_to_recordset(cast(bindparam("runs", type_=Text), JsonType()))
        .table_valued(
            *(column(name, _RUN[name].type) for name in COLUMNS),
            column("run_at", UTCDateTime),
            column("delay_seconds", Float(53)),
        )
        .render_derived("given", with_types=True)
    )
    due = func.coalesce(given.c.run_at, db_now_plus(given.c.delay_seconds))
    rows = select(*(given.c[name] for name in COLUMNS), due, *(literal_column("0") for _ in _ZERO))
    accepted = (
        postgresql.insert(TaskRun)
        .from_select([*COLUMNS, "scheduled_for", *_ZERO], rows, include_defaults=False)
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(_RUN.id, _RUN.status, _RUN.created_by, _RUN.created_at, _RUN.scheduled_for)
        .cte("accepted")
    )
    events = select(accepted.c.id, accepted.c.status, literal_column("0"), accepted.c.created_by)
    told = (
        insert(TaskRunEvent)
        .from_select(["run_id", "to_status", "attempt", "actor"], events, include_defaults=False)
        .returning(TaskRunEvent.__table__.c.id)
        .cte("told")
    )
    return select(
        cast(accepted.c.id, Text), accepted.c.created_at, accepted.c.scheduled_for, db_now()
    ).add_cte(told)


INSERT_RUNS: Final = text_of(_insert_runs())
