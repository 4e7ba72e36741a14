"""Limits across all workers: who may start under a key, who waits, and who is next.

A run that is RUNNING under a live lease holds a slot of its key. The lease is the slot, so a dead
holder leaves nothing behind that somebody would have to give back. A run that may not start is
held: its message goes round through a delay queue until `held_until`, and no attempt is charged.
Whoever ends calls the run that waits longest; the sweeper does it for holders that could not.

Rates are GCRA: a start is due every period / count seconds and may come up to one second early, so
a window of W seconds sees at most 1 + (W + 1) * count / period starts.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from sqlalchemy.engine import Connection, Row

from app.common.metrics import TASKS_HELD
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks import lines
from app.tasks.limits import Limits
from app.tasks.lines import Line
from app.tasks.outbox import Outbox
from app.tasks.registry import Registry
from app.tasks.requests import wakeup_of
from app.tasks.statuses import WAITING, Status
from app.tasks.transitions import CLAIM_LIMITED, write

# A start may come so early, so that messages that are a little late cost no throughput.
EARLY_SECONDS: Final = 1.0
# The broker's clock is not the database's: a message that comes so early is the one we wait for.
_CLOCK_SECONDS: Final = 0.1

# Delays that the broker keeps as they are, so that no message comes back before `held_until`.
WAITS_SECONDS: Final = (
    0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120,
    180, 300, 450, 600, 900, 1200, 1800, 2700, 3600,
)  # fmt: skip
# A message comes back for a slot only in case nobody calls: the rarer, the longer the line is.
_LEAST_WAIT_SECONDS: Final = 20.0
_MOST_WAIT_SECONDS: Final = 900.0
_WAIT_PER_PLACE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Decision:
    """What became of a claim: claimed, or held for so long; and who else is called."""

    claimed: Row[Any] | None = None
    held: Row[Any] | None = None
    seconds: float = 0.0
    called: list[Row[Any]] = field(default_factory=list)


class Limiter:
    """Claims runs under a limit, holds those that must wait, and calls the next ones."""

    def __init__(self, databases: Databases, registry: Registry, outbox: Outbox) -> None:
        self._databases = databases
        self._registry = registry
        self._outbox = outbox

    async def claim(self, run: Row[Any], values: dict[str, Any]) -> Row[Any] | None:
        """Return the claimed row. None: it is held and its message goes round, or it is somebody
        else's.
        """
        async with self._databases.begin(APPLICATION_BIND) as connection:
            decision = await connection.run_sync(self._decide, run, values)
        wakeups = [wakeup_of(one, 0.0) for one in decision.called]
        if decision.held is not None:
            wakeups.append(wakeup_of(decision.held, decision.seconds))
        await self._outbox.flush(wakeups)
        return decision.claimed

    async def pass_on(self, run: Row[Any]) -> None:
        """Call the run that waits longest for the slot that this one has let go of."""
        if run.limit_key is not None and self._slots(run.function) is not None:
            await self._call(run.limit_key, 1)

    async def call_waiting(self) -> int:
        """Call the next runs of every key that has a free slot for nobody; return how many.

        A holder that died could not call anybody; its slot is free when its lease has run out.
        """
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            keys = await connection.run_sync(lines.waiting_keys)
        count = 0
        for key in keys:
            slots = self._slots(key.function)
            free = 0 if slots is None else slots - key.running - key.called
            if free > 0:
                count += await self._call(key.limit_key, free)
        return count

    async def line_of(self, run: Row[Any]) -> tuple[Limits, Line] | None:
        """Return the limits of a run and how the line of its key looks now; None without limits."""
        limits = self._limits(run.function)
        if limits is None or run.limit_key is None:
            return None
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            return limits, await connection.run_sync(lines.look, run)

    async def _call(self, key: str, count: int) -> int:
        async with self._databases.begin(APPLICATION_BIND) as connection:
            called = await connection.run_sync(lines.call, key, count)
        await self._outbox.flush([wakeup_of(one, 0.0) for one in called])
        return len(called)

    def _limits(self, function: str) -> Limits | None:
        spec = self._registry.find(function)
        return None if spec is None else spec.limits

    def _slots(self, function: str) -> int | None:
        limits = self._limits(function)
        return None if limits is None else limits.max_concurrency

    def _decide(self, connection: Connection, run: Row[Any], values: dict[str, Any]) -> _Decision:
        limits = self._limits(run.function)
        if limits is None:  # The task has lost its limits since the run was accepted.
            return _Decision(write(connection, CLAIM_LIMITED, values))
        lines.lock(connection, run.limit_key)
        line = lines.look(connection, run)
        if _seconds_held(line) > _CLOCK_SECONDS:
            return _Decision()  # Another message of this run is on its way round.
        if not has_slot(limits, line):
            return _hold_for_slot(connection, run, limits, line)
        if (seconds := seconds_to_rate(limits, line)) > 0:
            return _hold(connection, run, seconds, "rate")
        claimed = write(connection, CLAIM_LIMITED, values)
        if claimed is not None and limits.rate is not None:
            due = line.now if line.next_at is None else max(line.next_at, line.now)
            interval = timedelta(seconds=limits.rate.interval_seconds)
            lines.use_rate(connection, run.limit_key, due + interval)
        return _Decision(claimed)


def is_limited(run: Row[Any]) -> bool:
    """Return whether a run waits for its limit, or could take its own slot over from a lost worker.

    The row has the database's clock as `now`.
    """
    if run.limit_key is None:
        return False
    is_lost = run.status == Status.RUNNING and run.lease_expires_at < run.now
    return is_lost or run.status in WAITING


def has_slot(limits: Limits, line: Line) -> bool:
    """Return whether there is a slot for a run behind all older ones."""
    return limits.max_concurrency is None or line.running + line.ahead < limits.max_concurrency


def seconds_to_rate(limits: Limits, line: Line) -> float:
    """Return after how long the rate lets a run start, behind all older ones; 0 for now."""
    if limits.rate is None or line.next_at is None:
        return 0.0
    behind = line.ahead * limits.rate.interval_seconds
    return max(0.0, (line.next_at - line.now).total_seconds() - EARLY_SECONDS + behind)


def _seconds_held(line: Line) -> float:
    return 0.0 if line.held_until is None else (line.held_until - line.now).total_seconds()


def _hold_for_slot(connection: Connection, run: Row[Any], limits: Limits, line: Line) -> _Decision:
    seconds = min(_MOST_WAIT_SECONDS, line.ahead * _WAIT_PER_PLACE_SECONDS)
    held = _hold(connection, run, max(_LEAST_WAIT_SECONDS, seconds), "concurrency")
    free = (limits.max_concurrency or 0) - line.running
    if free <= 0:
        return held
    # It is not this run's turn, and those whose turn it is have not been called.
    called = lines.call(connection, run.limit_key, free)
    return _Decision(held=held.held, seconds=held.seconds, called=called)


def _hold(connection: Connection, run: Row[Any], seconds: float, reason: str) -> _Decision:
    wait = max((rung for rung in WAITS_SECONDS if rung <= seconds), default=WAITS_SECONDS[0])
    held = lines.hold(connection, run.id, wait)
    if held is not None:
        TASKS_HELD.labels(run.function, run.queue, reason).inc()
    return _Decision(held=held, seconds=wait)
