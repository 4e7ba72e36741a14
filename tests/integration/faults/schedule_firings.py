"""Beats die while schedules fire: each fire time has one run all the same."""

import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import Program, Stack
from tests.integration.faults.supervisor import Supervisor
from tests.integration.faults.verdict import Verdict, judge

TASK: Final = "faults.note_effect"
# Where a beat passes a failpoint; `test_failpoints.py` knows those of the other processes.
PLACES: Final = frozenset({"schedules.before_commit", "schedules.after_commit"})


@dataclass(frozen=True)
class FiringReport:
    """How many fire times came, what became of them, and how late they were."""

    firings: int
    missed: int  # Fire times without a row, or whose row made no run.
    doubled: int  # Runs beyond the one of their fire time.
    verdict: Verdict
    killed: int
    restarts: int
    lateness: tuple[float, ...]
    seconds: float

    def quantile(self, share: float) -> float:
        """Return the seconds within which that share of the runs was committed."""
        ordered = sorted(self.lateness)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def run_schedule_firings(
    stack: Stack,
    *,
    schedules: int,
    every_seconds: float,
    firings: int,
    kills: int,
    seed: int,
    patience_seconds: float = 300,
) -> FiringReport:
    """Let the schedules fire so often while the beat that leads is killed again and again."""
    started = time.monotonic()
    choices = random.Random(seed)
    killed = 0
    stack.sql("DELETE FROM schedules")
    with Supervisor(stack) as supervisor:
        make_schedules(stack, schedules, every_seconds)
        over_seconds = firings / schedules * every_seconds
        for _ in range(kills):
            time.sleep(choices.uniform(0.5, 1.5) * over_seconds / (kills + 1))
            wait_until(lambda: leader(stack) is not None, "a beat leads", patience_seconds)
            if (leading := leader(stack)) is not None:
                leading.kill()
                killed += 1
        wait_until(
            lambda: _count(stack) >= firings and _is_up_to_date(stack),
            lambda: f"{_count(stack)} of {firings} fire times have come, see {stack.folder}",
            patience_seconds,
        )
        stack.sql("UPDATE schedules SET is_active = false, next_fire_at = NULL")
        stack.await_all_ended(patience_seconds)
    report = _judge(stack, every_seconds, killed, supervisor.restarts, time.monotonic() - started)
    stack.sql("DELETE FROM schedules")
    return report


def make_schedules(stack: Stack, count: int, every_seconds: float) -> None:
    """Make the schedules through the API; whatever is late is caught up."""
    for number in range(count):
        answer = stack.post(
            "/api/v1/schedules",
            name=f"schedule {number}",
            task=TASK,
            interval_seconds=every_seconds,
            misfire="catch_up",
        )
        assert answer.status_code == 201, answer.text


def leader(stack: Stack) -> Program | None:
    """Return the beat that holds the sweeper's lease, None while its holder is dead."""
    rows = stack.sql("SELECT holder FROM leases WHERE name = 'sweeper'")
    holder = str(rows[0][0]) if rows else ""
    leading = [beat for beat in stack.beats if beat.is_running and f":{beat.pid}:" in holder]
    return leading[0] if leading else None


def _count(stack: Stack) -> int:
    return int(stack.sql("SELECT count(*) FROM schedule_firings")[0][0])


def _is_up_to_date(stack: Stack) -> bool:
    late = "SELECT count(*) FROM schedules WHERE next_fire_at <= statement_timestamp()"
    return int(stack.sql(late)[0][0]) == 0


def _judge(
    stack: Stack, every_seconds: float, killed: int, restarts: int, seconds: float
) -> FiringReport:
    rows = stack.sql(
        "SELECT s.id, s.anchor_at, f.fire_time, f.fired_at, f.outcome, f.run_id::text"
        " FROM schedules s JOIN schedule_firings f ON f.schedule_id = s.id"
        " ORDER BY s.id, f.fire_time"
    )
    step = timedelta(seconds=every_seconds)
    expected: dict[str, int] = {}
    for schedule_id, anchor, fire_time, *_ in rows:
        # Their times are the anchor's, so the last one tells how many there should be.
        expected[str(schedule_id)] = round((fire_time - anchor) / step)
    fired = [row for row in rows if row[4] == "fired"]
    runs = [str(run_id) for (run_id,) in stack.sql("SELECT id FROM task_runs")]
    return FiringReport(
        firings=len(rows),
        missed=sum(expected.values()) - len(fired),
        doubled=len(runs) - len({row[5] for row in fired}),
        verdict=judge(stack, {row[5] for row in fired}),
        killed=killed,
        restarts=restarts,
        lateness=tuple((row[3] - row[2]).total_seconds() for row in fired),
        seconds=seconds,
    )
