"""Idempotency keys: one caller's key at one endpoint stands for one answer until it expires."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson
from sqlalchemy import ColumnElement, Select, and_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.errors import DatabaseBusy
from app.db.types import db_now, db_now_plus
from app.tasks.errors import IdempotencyKeyInFlight, IdempotencyKeyReused, InvalidIdempotencyKey
from app.tasks.models import IdempotencyRecord, TaskRun, TaskRunEvent
from app.tasks.requests import Caller, RunRequest

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_RUNS = TaskRun.__table__.c
_RECORD = IdempotencyRecord.__table__.c
_EVENT = TaskRunEvent.__table__.c
_KEY_COLUMNS = {"caller", "endpoint", "key"}
# For the rest of the transaction: its other locks are on rows that nobody else knows yet.
_SHORT_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '3s'")
# A replayed answer is the first one, so it tells the status in which the run began.
_FIRST_STATUS = (
    select(_EVENT.to_status)
    .where(_EVENT.run_id == _RUNS.id)
    .order_by(_EVENT.seq)
    .limit(1)
    .scalar_subquery()
    .label("status")
)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """One caller's use of an idempotency key at one endpoint, and what was asked for."""

    caller: str
    endpoint: str
    key: str
    fingerprint: str

    @classmethod
    def of(
        cls, requests: Iterable[RunRequest], principal: Caller, endpoint: str, key: str
    ) -> "KeyUse":
        """Return the use for a wish of one or more runs; raises InvalidIdempotencyKey."""
        check_idempotency_key(key)
        caller = f"{principal.tenant or ''}/{principal.id}"
        return cls(caller, endpoint, key, fingerprint_of(*requests))


async def earlier_run(connection: AsyncConnection, use: KeyUse) -> Row[Any] | None:
    """Return the run that the key stands for, as it was answered then; None for a free key.

    Raises IdempotencyKeyReused when something else was asked for.
    """
    run = (_RUNS.id, _RUNS.task, _FIRST_STATUS, _RUNS.created_at)
    statement = select(_RECORD.fingerprint, _RECORD.answer, *run).join_from(
        IdempotencyRecord.__table__, TaskRun.__table__, _RUNS.id == _RECORD.run_id
    )
    return await _earlier(connection, use, statement)


async def earlier_batch(connection: AsyncConnection, use: KeyUse) -> Row[Any] | None:
    """Return `batch_id` and `answer` of the batch that the key stands for; as `earlier_run`."""
    return await _earlier(
        connection,
        use,
        select(_RECORD.fingerprint, _RECORD.answer, _RECORD.run_id.label("batch_id")),
    )


async def _earlier(
    connection: AsyncConnection, use: KeyUse, statement: Select[Any]
) -> Row[Any] | None:
    row: Any = (
        await connection.execute(statement.where(_is_of(use), _RECORD.expires_at > db_now()))
    ).one_or_none()
    if row is not None and row.fingerprint != use.fingerprint:
        raise IdempotencyKeyReused(
            "This idempotency key was used before with another body.",
            hint="Take a new key for a new request.",
        )
    return cast("Row[Any] | None", row)


def _is_of(use: KeyUse) -> ColumnElement[bool]:
    return and_(
        _RECORD.caller == use.caller, _RECORD.endpoint == use.endpoint, _RECORD.key == use.key
    )


async def claim_key(
    connection: AsyncConnection,
    use: KeyUse,
    stands_for: str,
    keep_seconds: float,
    answer: Mapping[str, Any] | None = None,
) -> bool:
    """Insert the key's record; return False when there is one already.

    The unique key decides between parallel requests: the second waits for the
    first one's commit and then sees its record. IdempotencyKeyInFlight when that
    commit takes longer than a client should wait.
    """
    values = {
        "caller": use.caller,
        "endpoint": use.endpoint,
        "key": use.key,
        "fingerprint": use.fingerprint,
        "run_id": stands_for,
        "answer": answer,
        "expires_at": db_now_plus(keep_seconds),
    }
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    claim = dialect.insert(IdempotencyRecord).values(values)
    claim = claim.on_conflict_do_update(
        index_elements=sorted(_KEY_COLUMNS),
        set_={name: claim.excluded[name] for name in set(values) - _KEY_COLUMNS},
        where=_RECORD.expires_at <= db_now(),
    )
    if dialect is postgresql:
        await connection.execute(_SHORT_LOCK_TIMEOUT)
    try:
        taken = (await connection.execute(claim.returning(_RECORD.run_id))).one_or_none()
    except DatabaseBusy as error:
        raise in_flight() from error
    return taken is not None


async def let_stand_for(
    connection: AsyncConnection, use: KeyUse, run_id: str, answer: Mapping[str, Any]
) -> None:
    """Make a key that was just claimed stand for another run, with its own answer."""
    statement = update(IdempotencyRecord).where(_is_of(use)).values(run_id=run_id, answer=answer)
    await connection.execute(statement)


def in_flight() -> IdempotencyKeyInFlight:
    """Return the error for a key whose first request has not ended, or has only just been lost."""
    return IdempotencyKeyInFlight(
        "The first request with this idempotency key is still under way.",
        hint="Send the same request again in a second.",
        headers={"Retry-After": "1"},
    )


def check_idempotency_key(key: str) -> None:
    """Raise InvalidIdempotencyKey unless the key is 1 to 255 printable ASCII characters."""
    if not _KEY.fullmatch(key):
        raise InvalidIdempotencyKey(
            "An idempotency key is 1 to 255 printable ASCII characters without outer spaces."
        )


def fingerprint_of(*requests: RunRequest) -> str:
    """Return a digest of what is asked for; the order of keys and white space do not count."""
    digest = hashlib.sha256()
    for request in requests:
        asked = [
            request.task,
            dict(request.params),
            request.options.model_dump(mode="json", exclude_none=True),
            dict(request.labels),
            request.replay_of,
        ]
        digest.update(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()
