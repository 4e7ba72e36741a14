"""Deliveries of runs: claim them, call their functions, record the outcomes."""

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy.engine import Row
from sqlalchemy.exc import DBAPIError

from app.common import failpoints
from app.common.errors import ServiceUnavailable
from app.common.ids import parse_id
from app.common.logging import get_logger
from app.common.metrics import TASK_RETRIES, TASK_RUN_SECONDS, TASK_WAIT_SECONDS, TASKS
from app.common.tracing import TraceContext, bind_trace
from app.tasks.attempts import Attempts
from app.tasks.errors import StaleAttempt
from app.tasks.loops import cancel_leftovers, run_on
from app.tasks.outcomes import Outcome, Sessions
from app.tasks.plain_calls import PlainCall
from app.tasks.postponing import function_of, postponed
from app.tasks.recording import Recorder
from app.tasks.requests import wakeup_of
from app.tasks.services import Services
from app.tasks.statuses import Status
from app.tasks.transitions import RETRY
from app.tasks.unclaimed import Disposition, Unclaimed

_AWAY = (DBAPIError, ServiceUnavailable, OSError, TimeoutError)
PATIENCE_SECONDS: Final = 0.25
log = get_logger(__name__)
__all__ = ["PATIENCE_SECONDS", "Disposition", "Executor", "cancel_leftovers"]


@dataclass
class _Group:
    """Runs that were delivered together, and the plain successes among them, recorded together."""

    claims: dict[str, Any]
    unclaimed: dict[str, Any]
    ends_at: float
    ended: list[tuple[Any, Outcome]] = field(default_factory=list)
    not_begun: list[str] = field(default_factory=list)


def _ignore(run_id: str) -> None:
    del run_id


class Executor:
    """Runs deliveries on the calling thread; one per worker process or thread.

    `worker` names the worker process that beats the leases. `time_limit_errors` are
    what the pool raises in the middle of anything when a soft time limit is over.
    `recorder` takes the place of the one that commits outcomes, in the test kit.
    `begins` is told each run that is about to begin. Runs that were claimed together begin within
    `patience_seconds` or are given back: another process may have room for them.
    """

    def __init__(
        self,
        services: Services,
        *,
        worker: str,
        time_limit_errors: tuple[type[BaseException], ...] = (),
        recorder: Recorder | None = None,
        begins: Callable[[str], object] = _ignore,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._services = services
        self._worker = worker
        self._time_limit_errors = time_limit_errors
        # A time limit that falls into the commit passes like a database that restarts.
        self._recorder = recorder or Recorder(services.databases, worker, time_limit_errors)
        self._attempts = Attempts(services, time_limit_errors)
        self._unclaimed = Unclaimed(services)
        self._begins = begins
        self._patience = patience_seconds

    def execute(self, runner: asyncio.Runner, run_id: str) -> Disposition:
        """Run one delivery and say what becomes of its message; never raises for what a
        task does.
        """
        return self.execute_many(runner, [run_id])[0]

    def execute_many(self, runner: asyncio.Runner, run_ids: Sequence[str]) -> list[Disposition]:
        """Run deliveries one after the other and say what becomes of each message.

        They are claimed in one statement. Those that succeed and leave nothing but their result
        are recorded in one statement at the end; any other end is recorded when it comes.
        """
        known = [run_id for run_id in dict.fromkeys(run_ids) if _is_id(run_id)]
        try:
            group = self._claim(runner, known)
        except _AWAY as error:
            log.warning("runs cannot be claimed now", count=len(known), error=type(error).__name__)
            return [
                Disposition.LATER if run_id in known else Disposition.UNKNOWN for run_id in run_ids
            ]
        answers = dict.fromkeys(run_ids, Disposition.UNKNOWN)
        try:
            for run_id in known:
                answers[run_id] = self._deliver(runner, run_id, group)
        finally:
            # Also when the process is told to end: what has ended is not done again.
            self._record_together(runner, group)
        self._give_back(group)
        return [answers[run_id] for run_id in run_ids]

    def accept(self, runner: asyncio.Runner, call: PlainCall) -> Disposition:
        """Take the call of a plain Celery producer: DONE when its run is durable."""
        try:
            run_on(runner, self._services.plain_calls.accept(call))
        except _AWAY as error:
            log.warning("the call cannot be taken now", error=type(error).__name__)
            return Disposition.LATER
        return Disposition.DONE

    def execute_unknown(self, runner: asyncio.Runner, run_id: str, function: str) -> Disposition:
        """Take a delivery that names a task which this process has no code for.

        UNKNOWN unless it is the run's own: then the run waits for a worker that knows the task.
        """
        if not _is_id(run_id):
            return Disposition.UNKNOWN
        try:
            named = run_on(runner, function_of(self._services.databases, run_id))
        except _AWAY as error:
            log.warning("the run cannot be read now", task_id=run_id, error=type(error).__name__)
            return Disposition.LATER
        return self.execute(runner, run_id) if named == function else Disposition.UNKNOWN

    def can_cancel(self, run_id: str) -> bool:
        """Return whether the run is at its own coroutine; asked from any thread."""
        return self._attempts.can_cancel(run_id)

    def cancel(self, run_id: str) -> None:
        """Cancel the coroutine of the run, on its own loop; nothing when it has ended."""
        self._attempts.cancel(run_id)

    @property
    def _owner(self) -> str:
        """Who holds the lease: the worker that beats it and the process that runs the attempt."""
        return f"{self._worker}:{os.getpid()}"

    def _claim(self, runner: asyncio.Runner, run_ids: Sequence[str]) -> _Group:
        lease = self._services.settings.celery.lease_seconds
        hot = self._services.hot_runs
        claims = hot.claim(run_ids, self._owner, lease) if run_ids else ()
        by_id = {str(claim.id): claim for claim in claims}
        left_out = [run_id for run_id in run_ids if run_id not in by_id]
        unclaimed = self._sort_out(runner, left_out) if left_out else {}
        # One that is alone waits for no other, so it begins however long the claim took to come.
        patience = self._patience if len(run_ids) > 1 else math.inf
        return _Group(by_id, unclaimed, time.monotonic() + patience)

    def _sort_out(self, runner: asyncio.Runner, run_ids: Sequence[str]) -> dict[str, Any]:
        try:
            return run_on(runner, self._unclaimed.sort_out(run_ids))
        except _AWAY as error:
            # What was claimed beside them goes on.
            log.warning("runs cannot be read now", count=len(run_ids), error=type(error).__name__)
            return dict.fromkeys(run_ids, Disposition.LATER)

    def _deliver(self, runner: asyncio.Runner, run_id: str, group: _Group) -> Disposition:
        claim = group.claims.get(run_id)
        unclaimed: Any = group.unclaimed.get(run_id)
        if isinstance(unclaimed, Disposition):
            return unclaimed
        if time.monotonic() > group.ends_at:
            # Also one under a limit, which is claimed only now: the pool's time limit is for the
            # group, and counts on the last run to begin in time.
            if claim is not None:
                group.not_begun.append(run_id)
            return Disposition.AGAIN
        try:
            if claim is None:
                claim = run_on(runner, self._unclaimed.judge(unclaimed, self._owner))
        except _AWAY as error:
            log.warning("the run cannot be claimed now", task_id=run_id, error=type(error).__name__)
            return Disposition.LATER
        if isinstance(claim, Disposition):
            return claim
        self._begins(run_id)
        with _bound(claim):
            self._attempt(runner, claim, group)
        return Disposition.DONE

    def _attempt(self, runner: asyncio.Runner, claim: Row[Any], group: _Group) -> None:
        spec = self._services.registry.find(claim.function)
        if spec is None:
            self._postpone(runner, claim)
            return
        failpoints.hit("execution.after_claim")
        due = claim.scheduled_for or claim.created_at
        TASK_WAIT_SECONDS.labels(claim.function, claim.queue).observe(
            max(0.0, (claim.started_at - due).total_seconds())
        )
        log.info("attempt started")
        started = time.perf_counter()
        outcome, sessions = self._attempts.call(runner, claim, spec)
        seconds = time.perf_counter() - started
        TASK_RUN_SECONDS.labels(claim.function, claim.queue).observe(seconds)
        outcome = replace(outcome, seconds=seconds)
        failpoints.hit("execution.before_record")
        if outcome.is_plain_success and not sessions:
            group.ended.append((claim, outcome))
        else:
            self._record(runner, claim, outcome, sessions)

    def _postpone(self, runner: asyncio.Runner, claim: Row[Any]) -> None:
        log.warning("no code for the task", task=claim.function)
        patience = self._services.settings.celery.unknown_task_patience_seconds
        try:
            outcome = run_on(runner, postponed(self._services.databases, claim, patience))
        except _AWAY as error:
            log.warning("the lease is left to run out", error=type(error).__name__)
            return
        self._record(runner, claim, outcome, {})

    def _record_together(self, runner: asyncio.Runner, group: _Group) -> None:
        """Record the plain successes in one statement; what it leaves out, each by itself."""
        if not group.ended:
            return
        recorded = self._recorder.record_together(self._services.hot_runs, group.ended)
        for claim, outcome in group.ended:
            with _bound(claim):
                if recorded is not None and claim.id in recorded:
                    TASKS.labels(claim.function, claim.queue, Status.SUCCEEDED).inc()
                    _tell_end(Status.SUCCEEDED, outcome.seconds)
                    if claim.limit_key is not None:
                        run_on(runner, self._afterwards(claim, outcome))
                else:
                    self._record(runner, claim, outcome, {}, unsure=recorded is None)

    def _record(
        self,
        runner: asyncio.Runner,
        claim: Row[Any],
        outcome: Outcome,
        sessions: Sessions,
        *,
        unsure: bool = False,
    ) -> None:
        seconds = outcome.seconds
        try:
            row, outcome = self._recorder.record(runner, claim, outcome, sessions, unsure=unsure)
        except StaleAttempt as error:
            log.warning("attempt lost its lease", detail=error.detail)
            return
        TASKS.labels(claim.function, claim.queue, row.status).inc()
        _tell_end(row.status, seconds)
        run_on(runner, self._afterwards(row, outcome))

    def _give_back(self, group: _Group) -> None:
        """Let go of the runs that were not begun; their messages come again."""
        if not group.not_begun:
            return
        try:
            self._services.hot_runs.release(group.not_begun, self._owner)
        except _AWAY as error:
            log.warning("leases are left to run out", error=type(error).__name__)

    async def _afterwards(self, row: Row[Any], outcome: Outcome) -> None:
        """Send the messages that the commit stands for; the sweeper sends what is lost here."""
        wakeups = [
            child.wakeup(child.delay_seconds or 0.0)
            for child in outcome.children
            if not child.has_ended
        ]
        if outcome.retry_after_seconds is not None and row.status == Status.RETRYING:
            if outcome.transition is RETRY:
                TASK_RETRIES.labels(row.function, row.queue).inc()
            wakeups.append(wakeup_of(row, outcome.retry_after_seconds))
        try:
            await self._services.outbox.flush(wakeups)
            await self._services.limiter.pass_on(row)
            if outcome.dead_letter is not None:
                letter = outcome.dead_letter
                facts = {
                    "x-error-type": letter["error_type"],
                    "x-error-message": letter["error_message"][:500],
                }
                await self._services.transport.send_dead_letter(wakeup_of(row, 0.0), facts)
        except _AWAY as error:
            log.warning("messages are left to the sweeper", error=type(error).__name__)


def _tell_end(status: str, seconds: float | None) -> None:
    """Log the end of an attempt; without seconds its function was not called."""
    took = None if seconds is None else round(seconds * 1000, 1)
    log.info("attempt ended", status=status, duration_ms=took)


def _bound(claim: Row[Any]) -> AbstractContextManager[None]:
    """Return the context of an attempt for its log lines and what it submits."""
    trace = TraceContext(claim.trace_id, claim.id.replace("-", "")[-16:])
    return bind_trace(
        trace, task_id=claim.id, task=claim.task, attempt=claim.attempt, queue=claim.queue
    )


def _is_id(text: str) -> bool:
    try:
        return bool(parse_id(text))
    except ValueError:
        return False
