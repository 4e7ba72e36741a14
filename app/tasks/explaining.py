"""Why a run is not running: facts of its row, its queue, its limit and the broker, in words."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Select, and_, case, func, or_, select
from sqlalchemy.engine import Row

from app.common.clock import rfc3339
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now
from app.tasks.limiting import Limiter, has_slot, seconds_to_rate
from app.tasks.limits import Limits
from app.tasks.lines import Line, holders
from app.tasks.models import TaskRun
from app.tasks.queues import Queues
from app.tasks.registry import Registry
from app.tasks.requests import Caller
from app.tasks.runs import Runs
from app.tasks.statuses import ENDED, WAITING, Status

_RUN = TaskRun.__table__.c
# The lanes of a queue class; see docs/decisions/0006.
_HIGH: Final = 7
_LOW: Final = 2
_MOST_COUNTED: Final = 10_000
_MOST_HOLDERS: Final = 20


class ReasonCode(StrEnum):
    """What keeps a run from running; `docs/guides/api.md` has a row for each."""

    NOT_DUE = "NOT_DUE"
    WAITING_FOR_RETRY = "WAITING_FOR_RETRY"
    QUEUE_PAUSED = "QUEUE_PAUSED"
    NO_CONSUMER = "NO_CONSUMER"
    BROKER_UNREACHABLE = "BROKER_UNREACHABLE"
    NOT_PUBLISHED = "NOT_PUBLISHED"
    TASK_NOT_REGISTERED = "TASK_NOT_REGISTERED"
    CONCURRENCY_FULL = "CONCURRENCY_FULL"
    RATE_LIMITED = "RATE_LIMITED"
    BEHIND_OTHERS = "BEHIND_OTHERS"
    READY = "READY"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    RUNNING = "RUNNING"
    WORKER_SILENT = "WORKER_SILENT"
    DEAD_LETTERED = "DEAD_LETTERED"
    EXPIRED = "EXPIRED"
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True)
class Reason:
    """One fact that keeps a run from running: `code` is stable, `message` is for people."""

    code: ReasonCode
    message: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The status of a run and the reasons for it, what has to change first in front."""

    task_id: str
    status: str
    reasons: list[Reason]


class Explainer:
    """Explains runs that the caller may see; of other tenants' runs it tells numbers only."""

    def __init__(
        self,
        databases: Databases,
        registry: Registry,
        runs: Runs,
        queues: Queues,
        limiter: Limiter,
    ) -> None:
        self._databases = databases
        self._registry = registry
        self._runs = runs
        self._queues = queues
        self._limiter = limiter

    async def explain(self, run_id: str, caller: Caller) -> Explanation:
        """Return why the run is where it is; RunNotFound when the caller may not see it."""
        run = await self._runs.get(run_id, caller)
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            now: datetime = (await connection.execute(select(db_now()))).scalar_one()
        if run.status in ENDED:
            reasons = [_ended(run)]
        elif run.status == Status.RUNNING:
            reasons = _running(run, now)
        else:
            reasons = await self._waiting(run, now, caller)
        return Explanation(run.id, run.status, reasons)

    async def _waiting(self, run: Row[Any], now: datetime, caller: Caller) -> list[Reason]:
        reasons = [*_not_due(run, now), *await self._about_queue(run, caller)]
        if run.published_at is None:
            reasons.append(_not_published(run))
        if self._registry.find(run.function) is None:
            reasons.append(_no_code(run))
        if run.scheduled_for is None or run.scheduled_for <= now:
            reasons += await self._about_limit(run, caller)
            reasons += await self._about_line(run)
        return reasons or [
            Reason(ReasonCode.READY, "Nothing stands in its way; a worker takes it next.")
        ]

    async def _about_queue(self, run: Row[Any], caller: Caller) -> list[Reason]:
        pause = await self._queues.pause_of(run.queue)
        if pause is not None:
            return [_paused(run, pause, caller)]
        level = await self._queues.level_of(run.queue)
        if level is None:
            message = "The broker does not answer, so nobody knows what waits and who consumes."
            return [Reason(ReasonCode.BROKER_UNREACHABLE, message, {"queue": run.queue})]
        if level.consumers == 0:
            message = f"No worker consumes from the queue '{run.queue}'."
            return [Reason(ReasonCode.NO_CONSUMER, message, {"queue": run.queue})]
        return []

    async def _about_limit(self, run: Row[Any], caller: Caller) -> list[Reason]:
        seen = await self._limiter.line_of(run)
        if seen is None:
            return []
        limits, line = seen
        if not has_slot(limits, line):
            return [await self._no_slot(run, limits, line, caller)]
        seconds = seconds_to_rate(limits, line)
        return [_no_token(run, limits, line, seconds)] if seconds > 0 else []

    async def _no_slot(self, run: Row[Any], limits: Limits, line: Line, caller: Caller) -> Reason:
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            rows = (await connection.execute(holders(_MOST_HOLDERS), {"key": run.limit_key})).all()
        visible = [row.id for row in rows if row.tenant == caller.tenant]
        message = f"{line.running} of {limits.max_concurrency} slots of its limit are taken."
        if line.ahead:
            message += f" {line.ahead} older runs wait for one before it."
        detail = {
            "limit_key": run.limit_key,
            "max_concurrency": limits.max_concurrency,
            "running": line.running,
            "ahead": line.ahead,
            "holders": visible,
        }
        return Reason(ReasonCode.CONCURRENCY_FULL, message, detail)

    async def _about_line(self, run: Row[Any]) -> list[Reason]:
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            count = (await connection.execute(_before(run))).scalar_one()
        if not count:
            return []
        told = f"{count}" if count < _MOST_COUNTED else f"at least {count}"
        message = f"{told} runs are before it on the queue '{run.queue}'."
        return [Reason(ReasonCode.BEHIND_OTHERS, message, {"queue": run.queue, "count": count})]


def _ended(run: Row[Any]) -> Reason:
    detail: dict[str, Any] = {"finished_at": _moment(run.finished_at)}
    if run.status == Status.EXPIRED:
        detail["expires_at"] = _moment(run.expires_at)
        return Reason(ReasonCode.EXPIRED, "It did not start before its expires_at.", detail)
    if run.dead_letter_id is not None:
        error = run.error or {}
        detail |= {"dead_letter_id": run.dead_letter_id, "error": error}
        message = (
            f"It failed for good with {error.get('type', 'an error')} after attempt {run.attempt}"
            f" of {run.max_attempts}; its dead letter can be replayed."
        )
        return Reason(ReasonCode.DEAD_LETTERED, message, detail)
    if run.error is not None:
        detail["error"] = run.error
    return Reason(ReasonCode.ENDED, f"It ended as {run.status}.", detail)


def _running(run: Row[Any], now: datetime) -> list[Reason]:
    since = {"worker": run.lease_owner, "since": _moment(run.started_at), "attempt": run.attempt}
    if run.lease_expires_at < now:
        detail = {**since, "lease_expired_at": _moment(run.lease_expires_at)}
        message = "Its worker has gone silent; the sweeper takes it back."
        return [Reason(ReasonCode.WORKER_SILENT, message, detail)]
    reasons = [
        Reason(ReasonCode.RUNNING, f"It runs on {run.lease_owner} as attempt {run.attempt}.", since)
    ]
    if run.cancel_requested_at is not None:
        detail = {"since": _moment(run.cancel_requested_at)}
        message = "Somebody has asked it to stop."
        reasons.insert(0, Reason(ReasonCode.CANCEL_REQUESTED, message, detail))
    return reasons


def _not_due(run: Row[Any], now: datetime) -> list[Reason]:
    if run.expires_at is not None and run.expires_at <= now:
        message = "Its expires_at has passed; it does not start any more."
        return [Reason(ReasonCode.EXPIRED, message, {"expires_at": _moment(run.expires_at)})]
    if run.scheduled_for is None or run.scheduled_for <= now:
        return []
    until = _moment(run.scheduled_for)
    if run.status == Status.RETRYING:
        error = run.error or {}
        message = (
            f"Attempt {run.attempt} of {run.max_attempts} failed with"
            f" {error.get('type', 'an error')}; the next one is due at {until}."
        )
        detail = {"until": until, "attempt": run.attempt, "error": error}
        return [Reason(ReasonCode.WAITING_FOR_RETRY, message, detail)]
    return [Reason(ReasonCode.NOT_DUE, f"It is due at {until}.", {"until": until})]


def _paused(run: Row[Any], pause: Row[Any], caller: Caller) -> Reason:
    detail: dict[str, Any] = {"queue": run.queue, "since": _moment(pause.paused_at)}
    message = f"The queue '{run.queue}' is paused."
    if caller.tenant is None:
        detail |= {"by": pause.paused_by, "reason": pause.reason}
    return Reason(ReasonCode.QUEUE_PAUSED, message, detail)


def _not_published(run: Row[Any]) -> Reason:
    message = "Its message is not on the broker yet; the sweeper sends it."
    return Reason(ReasonCode.NOT_PUBLISHED, message, {"since": _moment(run.updated_at)})


def _no_code(run: Row[Any]) -> Reason:
    message = f"No plugin of this installation has the task '{run.function}'."
    return Reason(ReasonCode.TASK_NOT_REGISTERED, message, {"task": run.function})


def _no_token(run: Row[Any], limits: Limits, line: Line, seconds: float) -> Reason:
    until = _moment(line.now + timedelta(seconds=seconds))
    message = f"The rate of its task is used up; it may start at {until}."
    assert limits.rate is not None  # noqa: S101 - only a rate makes a run wait for a token
    detail = {
        "limit_key": run.limit_key,
        "until": until,
        "interval_seconds": limits.rate.interval_seconds,
        "ahead": line.ahead,
    }
    return Reason(ReasonCode.RATE_LIMITED, message, detail)


def _before(run: Row[Any]) -> Select[Any]:
    """Return the count of runs of the queue that are due and go before this one."""
    lane = case((_RUN.priority >= _HIGH, 0), (_RUN.priority <= _LOW, 2), else_=1)
    own_lane = 0 if run.priority >= _HIGH else 2 if run.priority <= _LOW else 1
    due = func.coalesce(_RUN.scheduled_for, _RUN.created_at)
    own_due = run.scheduled_for or run.created_at
    others = (
        select(_RUN.id)
        .where(
            _RUN.status.in_(WAITING),
            _RUN.queue == run.queue,
            due <= db_now(),
            or_(_RUN.held_until.is_(None), _RUN.held_until <= db_now()),
            or_(lane < own_lane, and_(lane == own_lane, due < own_due)),
        )
        .limit(_MOST_COUNTED)
        .subquery()
    )
    return select(func.count()).select_from(others)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
