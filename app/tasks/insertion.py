"""Writing a new run: its row and its first event, in the transaction that the caller has open.

A unique run is written unless an equal one holds its key (`app.tasks.models.HELD`): a
partial unique index decides, never a look before the leap. A run holds its key while it
lives and, when it has succeeded, until somebody asks whose time it is over for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Float, and_, bindparam, insert, literal, null, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config.settings import APPLICATION_BIND
from app.db.errors import TransactionConflict
from app.db.types import db_now, db_now_plus
from app.tasks.errors import RunAlreadyExists
from app.tasks.models import HELD, TaskRun, TaskRunEvent
from app.tasks.requests import NewRun
from app.tasks.statuses import Status

_RUNS = TaskRun.__table__.c
_ANSWER = (
    _RUNS.id,
    _RUNS.task,
    _RUNS.status,
    _RUNS.created_at,
    _RUNS.scheduled_for,
    db_now().label("now"),
)
_IS_HELD = text(HELD)
_TRIES = 5
_KEYS_PER_LOOK = 500
_IS_OVER = and_(
    _RUNS.status == Status.SUCCEEDED,
    _RUNS.created_at <= db_now_plus(-bindparam("unique_for_seconds", type_=Float(53))),
)
_RELEASE = (
    update(TaskRun)
    .where(_RUNS.unique_key == bindparam("held_key"), _IS_OVER)
    .values(unique_key=null())
)
# The rows in a fixed order and none that somebody else is at: two such statements never wait for
# each other.
_RELEASE_MANY = (
    update(TaskRun)
    .where(
        _RUNS.id.in_(
            select(_RUNS.id)
            .where(_RUNS.unique_key.in_(bindparam("held_keys", expanding=True)), _IS_OVER)
            .with_for_update(skip_locked=True)
        )
    )
    .values(unique_key=null())
)
_HOLDER = select(*_ANSWER).where(_RUNS.unique_key == bindparam("held_key"), _IS_HELD)
_HOLDERS = select(_RUNS.id, _RUNS.unique_key).where(
    _RUNS.unique_key.in_(bindparam("held_keys", expanding=True)), _IS_HELD
)
FIND_EQUAL = (
    select(_RUNS.id)
    .where(_RUNS.unique_key == bindparam("held_key"), _IS_HELD)
    .where(or_(_RUNS.finished_at.is_(None), ~_IS_OVER))
)


async def insert_run(connection: AsyncConnection, run: NewRun, *, actor: str) -> Row[Any]:
    """Insert a run and its first event in the open transaction; return its row.

    For a unique run the row can be an equal run's, which its `id` tells: then nothing was
    written. Raises RunAlreadyExists for an id that is used.
    """
    return await connection.run_sync(write_run, run, actor)


def write_run(connection: Connection, run: NewRun, actor: str) -> Row[Any]:
    """The blocking twin of `insert_run`."""
    try:
        row = _write_unique(connection, run) if run.unique_for_seconds else _write(connection, run)
    except IntegrityError as error:
        raise RunAlreadyExists(f"The run '{run.id}' exists already.") from error
    if row.id == run.id:
        connection.execute(insert(TaskRunEvent), first_event(run, actor))
    return row


def _write(connection: Connection, run: NewRun) -> Row[Any]:
    statement = insert(TaskRun).values(**columns_of(run)).returning(*_ANSWER)
    row: Row[Any] = connection.execute(statement).one()
    return row


def _write_unique(connection: Connection, run: NewRun) -> Row[Any]:
    claim = claim_keys(connection).values(**columns_of(run)).returning(*_ANSWER)
    held = held_key_of(run)
    for _ in range(_TRIES):
        connection.execute(_RELEASE, held)
        row: Row[Any] | None = connection.execute(claim).one_or_none()
        row = row or connection.execute(_HOLDER, held).one_or_none()
        if row is not None:
            return row
        # The holder failed between the two statements, so the key is free again.
    raise TransactionConflict(APPLICATION_BIND)


async def insert_unique(
    connection: AsyncConnection, runs: Sequence[NewRun], rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Insert unique runs without their events; return per run the id of the one that stands for
    it, its own when it was inserted. `rows` holds the values of their rows by id.

    Of equal ones the first is inserted. Release the keys before (`release_keys`), in a
    transaction of its own.
    """
    first: dict[str, NewRun] = {}
    for run in runs:
        first.setdefault(run.row["unique_key"], run)
    holders: dict[str, str] = {}
    # In a fixed order: two batches with the same runs never wait for each other.
    missing = sorted(first)
    for _ in range(_TRIES):
        claim = await connection.run_sync(claim_keys)
        await connection.execute(claim, [rows[first[key].id] for key in missing])
        holders |= await _holders(connection, missing)
        missing = [key for key in missing if key not in holders]
        if not missing:
            return {run.id: holders[run.row["unique_key"]] for run in runs}
    raise TransactionConflict(APPLICATION_BIND)


async def release_keys(connection: AsyncConnection, runs: Iterable[NewRun]) -> None:
    """Take the keys of these unique runs from those whose time is over."""
    by_seconds: dict[float, list[str]] = {}
    for run in runs:
        if run.unique_for_seconds:
            by_seconds.setdefault(run.unique_for_seconds, []).append(run.row["unique_key"])
    for seconds, keys in by_seconds.items():
        for part in _parts(keys):
            values = {"held_keys": part, "unique_for_seconds": seconds}
            await connection.execute(_RELEASE_MANY, values)


async def _holders(connection: AsyncConnection, keys: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in _parts(keys):
        rows = await connection.execute(_HOLDERS, {"held_keys": part})
        found |= {row.unique_key: row.id for row in rows}
    return found


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + _KEYS_PER_LOOK] for start in range(0, len(keys), _KEYS_PER_LOOK))


def claim_keys(connection: Connection) -> Any:
    """Return the INSERT of runs that leaves out those whose key is held."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(TaskRun).on_conflict_do_nothing(
        index_elements=["unique_key"], index_where=_IS_HELD
    )


def held_key_of(run: NewRun) -> dict[str, Any]:
    """Return the parameters of the statements that look for an equal run."""
    return {"held_key": run.row["unique_key"], "unique_for_seconds": run.unique_for_seconds}


def columns_of(run: NewRun) -> dict[str, Any]:
    """Return the values of a run's row; due times are counted on the database's clock."""
    scheduled_for: Any = null()
    if run.delay_seconds is not None:
        scheduled_for = db_now_plus(sa.cast(literal(run.delay_seconds), Float(53)))
    elif run.run_at is not None:
        scheduled_for = run.run_at
    return {**run.row, "scheduled_for": scheduled_for}


def first_event(run: NewRun, actor: str) -> dict[str, Any]:
    """Return the row of the event with which a run begins."""
    return {
        "run_id": run.id,
        "from_status": None,
        "to_status": run.row["status"],
        "attempt": 0,
        "actor": actor,
    }
