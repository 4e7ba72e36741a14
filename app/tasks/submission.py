"""Submission: from a request to a durable row, exactly once per idempotency key."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import orjson
import sqlalchemy as sa
from sqlalchemy import Float, insert, literal, null, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.common import failpoints
from app.common.clock import utc_now
from app.common.errors import FieldError, Forbidden
from app.common.strict_json import dump_bytes
from app.common.tracing import TraceContext
from app.config.settings import APPLICATION_BIND, Settings
from app.db import Databases
from app.db.errors import DatabaseBusy
from app.db.types import db_now, db_now_plus
from app.tasks.catalogue import Catalogue, CatalogueEntry
from app.tasks.errors import (
    IdempotencyKeyInFlight,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    InvalidOptions,
    ParamsTooLarge,
    RunAlreadyExists,
)
from app.tasks.models import IdempotencyRecord, TaskRun, TaskRunEvent
from app.tasks.outbox import Outbox
from app.tasks.requests import MAX_LABELS, Caller, NewRun, RunRequest
from app.tasks.statuses import Status

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_RUNS = TaskRun.__table__.c
_RECORD = IdempotencyRecord.__table__.c


@dataclass(frozen=True)
class Submitted:
    """An accepted run. `replayed` tells that an earlier request with the same idempotency key made
    it.
    """

    task_id: str
    task: str
    status: str
    created_at: datetime
    replayed: bool


class RunMaker:
    """Checks requests against the catalogue and the limits; writes nothing."""

    def __init__(self, settings: Settings, queues: Sequence[str]) -> None:
        self._limits = settings.limits
        self._queues = tuple(queues)

    @property
    def queues(self) -> tuple[str, ...]:
        """The classes of queues that a run may ask for."""
        return self._queues

    def make(
        self,
        entry: CatalogueEntry,
        request: RunRequest,
        *,
        created_by: str,
        tenant: str | None,
        trace_id: str,
    ) -> NewRun:
        """Return the checked run; raises InvalidParams, InvalidOptions or ParamsTooLarge."""
        params = {**request.params, **entry.preset_params}
        self._check_size(params)
        entry.spec.read_params(params)
        self._check_options(request)
        options = request.options
        policy = entry.options
        due_later = bool(options.delay_seconds) or (
            options.run_at is not None and options.run_at > utc_now()
        )
        row = {
            "id": request.task_id,
            "task": entry.name,
            "function": entry.spec.name,
            "status": Status.SCHEDULED if due_later else Status.PENDING,
            "params": params,
            "options": {
                "timeout_seconds": options.timeout_seconds or policy.timeout_seconds,
                "backoff_seconds": policy.backoff_seconds,
                "backoff_max_seconds": policy.backoff_max_seconds,
                "jitter": policy.jitter,
                "on_failure": policy.on_failure,
            },
            "labels": dict(request.labels),
            "max_attempts": options.max_attempts or policy.max_attempts,
            "queue": options.queue or policy.queue,
            "priority": policy.priority if options.priority is None else options.priority,
            "expires_at": options.expires_at,
            "created_by": created_by,
            "tenant": tenant,
            "parent_id": request.parent_id,
            "batch_id": request.batch_id,
            "replay_of": request.replay_of,
            "trace_id": trace_id,
        }
        return NewRun(
            id=request.task_id,
            row=row,
            delay_seconds=options.delay_seconds if due_later else None,
            run_at=options.run_at if due_later else None,
        )

    def _check_size(self, params: Mapping[str, Any]) -> None:
        size = len(dump_bytes(params))
        if size > self._limits.max_params_bytes:
            raise ParamsTooLarge(
                f"The parameters are {size} bytes; the limit is {self._limits.max_params_bytes}.",
                hint="Put the data on the storage and pass its key.",
            )

    def _check_options(self, request: RunRequest) -> None:
        options, limits = request.options, self._limits
        latest = utc_now() + timedelta(seconds=limits.max_delay_seconds)
        faults: list[tuple[str, str]] = []
        if options.queue is not None and options.queue not in self._queues:
            faults.append(
                ("queue", f"there is no such queue; there are: {', '.join(self._queues)}")
            )
        if (options.delay_seconds or 0) > limits.max_delay_seconds:
            faults.append(("delay_seconds", f"must be at most {limits.max_delay_seconds}"))
        if options.run_at is not None and options.run_at > latest:
            faults.append(
                ("run_at", f"must be at most {limits.max_delay_seconds} seconds from now")
            )
        if (options.timeout_seconds or 0) > limits.max_timeout_seconds:
            faults.append(("timeout_seconds", f"must be at most {limits.max_timeout_seconds}"))
        if (options.max_attempts or 0) > limits.max_attempts:
            faults.append(("max_attempts", f"must be at most {limits.max_attempts}"))
        if options.expires_at is not None and options.expires_at <= utc_now():
            faults.append(("expires_at", "lies in the past"))
        if faults:
            errors = [
                FieldError(("options", name), message, "invalid_option") for name, message in faults
            ]
            raise InvalidOptions("An option of the run is wrong.", errors=errors)
        if len(request.labels) > MAX_LABELS:
            error = FieldError(
                ("labels",), f"must be at most {MAX_LABELS} labels", "too_many_labels"
            )
            raise InvalidOptions("A run has too many labels.", errors=[error])


# For the rest of the transaction: its other locks are on rows that nobody else knows yet.
_SHORT_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '3s'")


class Submission:
    """Accepts runs: one commit with the idempotency record and the first event, then the outbox."""

    def __init__(
        self,
        databases: Databases,
        catalogue: Catalogue,
        maker: RunMaker,
        outbox: Outbox,
        settings: Settings,
    ) -> None:
        self._databases = databases
        self._catalogue = catalogue
        self._maker = maker
        self._outbox = outbox
        self._keep_keys_seconds = settings.retention.idempotency_seconds

    async def submit(
        self,
        request: RunRequest,
        *,
        principal: Caller,
        trace: TraceContext,
        idempotency_key: str | None = None,
        endpoint: str = "tasks/run",
    ) -> Submitted:
        """Return the accepted run; when this returns it is durable.

        Raises TaskNotRegistered, Forbidden, InvalidParams, InvalidOptions,
        ParamsTooLarge, InvalidIdempotencyKey, IdempotencyKeyReused, RunAlreadyExists.
        """
        use = None
        if idempotency_key is not None:
            check_idempotency_key(idempotency_key)
            use = _KeyUse.of(request, principal, endpoint, idempotency_key)
            # Looked for before anything is checked: what was accepted once stays accepted, even
            # when its `expires_at` has passed or its task is gone by now.
            async with self._databases.autocommit(APPLICATION_BIND) as reader:
                earlier = await _earlier(reader, use)
            if earlier is not None:
                return _submitted(earlier, replayed=True)
        entry = await self._catalogue.get(request.task)
        scope = entry.spec.options.required_scope
        if scope is not None and not principal.allows(scope):
            raise Forbidden(f"The task '{entry.name}' needs the scope '{scope}'.")
        run = self._maker.make(
            entry,
            request,
            created_by=principal.id,
            tenant=principal.tenant,
            trace_id=trace.trace_id,
        )
        async with self._databases.begin(APPLICATION_BIND) as connection:
            if use is not None:
                earlier = await self._claim_key(connection, use, run)
                if earlier is not None:
                    return _submitted(earlier, replayed=True)
                run.row["idempotency_key"] = use.key
            row = await insert_run(connection, run, actor=principal.id)
            failpoints.hit("submission.before_commit")
        failpoints.hit("submission.after_commit")
        self._outbox.offer([run.wakeup(_seconds_until(row))])
        return _submitted(row, replayed=False)

    async def _claim_key(
        self, connection: AsyncConnection, use: "_KeyUse", run: NewRun
    ) -> Row[Any] | None:
        """Insert the key's record; return the earlier run when there is one.

        The unique key decides between parallel requests: the second waits for the
        first one's commit and then sees its record. IdempotencyKeyInFlight when that
        commit takes longer than a client should wait.
        """
        values = {
            "caller": use.caller,
            "endpoint": use.endpoint,
            "key": use.key,
            "fingerprint": use.fingerprint,
            "run_id": run.id,
            "expires_at": db_now_plus(self._keep_keys_seconds),
        }
        dialect = (
            postgresql if self._databases.dialect(APPLICATION_BIND) == "postgresql" else sqlite
        )
        claim = dialect.insert(IdempotencyRecord).values(values)
        claim = claim.on_conflict_do_update(
            index_elements=["caller", "endpoint", "key"],
            set_={name: claim.excluded[name] for name in ("fingerprint", "run_id", "expires_at")},
            where=_RECORD.expires_at <= db_now(),
        )
        if dialect is postgresql:
            await connection.execute(_SHORT_LOCK_TIMEOUT)
        try:
            taken = (await connection.execute(claim.returning(_RECORD.run_id))).one_or_none()
        except DatabaseBusy as error:
            raise IdempotencyKeyInFlight(
                "The first request with this idempotency key is still under way.",
                hint="Send the same request again in a second.",
                headers={"Retry-After": "1"},
            ) from error
        return None if taken is not None else await _earlier(connection, use)


@dataclass(frozen=True, slots=True)
class _KeyUse:
    """One caller's use of an idempotency key at one endpoint, and what was asked for."""

    caller: str
    endpoint: str
    key: str
    fingerprint: str

    @classmethod
    def of(cls, request: RunRequest, principal: Caller, endpoint: str, key: str) -> "_KeyUse":
        caller = f"{principal.tenant or ''}/{principal.id}"
        return cls(caller, endpoint, key, fingerprint_of(request))


async def _earlier(connection: AsyncConnection, use: _KeyUse) -> Row[Any] | None:
    """Return the run that the key stands for, as it was answered then; None for a free key."""
    statement = select(_RECORD.fingerprint, _RUNS.id, _RUNS.task, _FIRST_STATUS, _RUNS.created_at)
    statement = statement.join_from(
        IdempotencyRecord.__table__, TaskRun.__table__, _RUNS.id == _RECORD.run_id
    ).where(
        _RECORD.caller == use.caller,
        _RECORD.endpoint == use.endpoint,
        _RECORD.key == use.key,
        _RECORD.expires_at > db_now(),
    )
    row: Any = (await connection.execute(statement)).one_or_none()
    if row is not None and row.fingerprint != use.fingerprint:
        raise IdempotencyKeyReused(
            "This idempotency key was used before with another body.",
            hint="Take a new key for a new request.",
        )
    return cast("Row[Any] | None", row)


_ANSWER = (
    _RUNS.id,
    _RUNS.task,
    _RUNS.status,
    _RUNS.created_at,
    _RUNS.scheduled_for,
    db_now().label("now"),
)
_EVENT = TaskRunEvent.__table__.c
# A replayed answer is the first one, so it tells the status in which the run began.
_FIRST_STATUS = (
    select(_EVENT.to_status)
    .where(_EVENT.run_id == _RUNS.id)
    .order_by(_EVENT.id)
    .limit(1)
    .scalar_subquery()
    .label("status")
)


async def insert_run(connection: AsyncConnection, run: NewRun, *, actor: str) -> Row[Any]:
    """Insert a run and its first event in the open transaction; RunAlreadyExists for a known id."""
    try:
        row = (await connection.execute(insert_statement(run))).one()
    except IntegrityError as error:
        raise RunAlreadyExists(f"The run '{run.id}' exists already.") from error
    await connection.execute(insert(TaskRunEvent), first_event(run, actor))
    return row


def insert_statement(run: NewRun) -> Any:
    """Return the INSERT of a run; due times are counted on the database's clock."""
    scheduled_for: Any = null()
    if run.delay_seconds is not None:
        scheduled_for = db_now_plus(sa.cast(literal(run.delay_seconds), Float(53)))
    elif run.run_at is not None:
        scheduled_for = run.run_at
    return insert(TaskRun).values(**run.row, scheduled_for=scheduled_for).returning(*_ANSWER)


def first_event(run: NewRun, actor: str) -> dict[str, Any]:
    """Return the row of the event with which a run begins."""
    return {
        "run_id": run.id,
        "from_status": None,
        "to_status": run.row["status"],
        "attempt": 0,
        "actor": actor,
    }


def check_idempotency_key(key: str) -> None:
    """Raise InvalidIdempotencyKey unless the key is 1 to 255 printable ASCII characters."""
    if not _KEY.fullmatch(key):
        raise InvalidIdempotencyKey(
            "An idempotency key is 1 to 255 printable ASCII characters without outer spaces."
        )


def fingerprint_of(request: RunRequest) -> str:
    """Return a digest of what is asked for; the order of keys and white space do not count."""
    asked = [
        request.task,
        dict(request.params),
        request.options.model_dump(mode="json", exclude_none=True),
        dict(request.labels),
        request.replay_of,
    ]
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _seconds_until(row: Row[Any]) -> float:
    if row.scheduled_for is None:
        return 0.0
    seconds: float = (row.scheduled_for - row.now).total_seconds()
    return max(0.0, seconds)


def _submitted(row: Row[Any], *, replayed: bool) -> Submitted:
    return Submitted(
        task_id=row.id,
        task=row.task,
        status=row.status,
        created_at=row.created_at,
        replayed=replayed,
    )
