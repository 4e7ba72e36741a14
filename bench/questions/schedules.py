"""10,000 schedules that are due in one minute: how late do they fire?

One beat, no worker. First they are due evenly over a minute, then all at the same moment, as those
of a cron line with a full minute are. A firing is late by the time from its fire time to the commit
that made its run.
"""

import contextlib
import time
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from bench.rounds import Bar, Bench
from bench.running import BenchError, Process
from bench.sides import OURS
from bench.statistics import percentile

TITLE = "10,000 schedules due in one minute"
BARS: tuple[Bar, ...] = ()
_SIZE = 10_000
_AHEAD_SECONDS = 5.0
_LONGEST_SECONDS = 180.0
_MAKE = """
    INSERT INTO schedules (
        id, name, kind, task, params, interval_seconds, timezone, misfire, overlap, is_active,
        anchor_at, next_fire_at, created_by
    )
    SELECT
        gen_random_uuid(), 'bench-' || number, 'api', 'bench.nothing', '{}', 86400, 'UTC',
        'run_once', 'allow', true, due - interval '1 day', due, 'bench'
    FROM (
        SELECT
            number,
            now() + (%(ahead)s + %(spread)s * number / %(size)s) * interval '1 second' AS due
        FROM generate_series(1, %(size)s) AS number
    ) AS times
"""
_LATE = """
    SELECT extract(epoch FROM run.created_at - firing.fire_time)
    FROM schedule_firings AS firing JOIN task_runs AS run ON run.id = firing.run_id
"""


def measure(bench: Bench) -> None:
    """Make the schedules for the next moments, in each round both ways."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(bench.yard.control(OURS))
        url = make_url(bench.yard.database("taskyard")).set(drivername="postgresql")
        plain = url.render_as_string(hide_password=False)
        rows = stack.enter_context(psycopg.connect(plain, autocommit=True))
        beat = stack.enter_context(bench.yard.beat())
        for number, (name, spread) in bench.turns((("over a minute", 60.0), ("at once", 0.0))):
            rows.execute("TRUNCATE schedules, schedule_firings, task_runs CASCADE")
            size = bench.of(_SIZE, least=100)
            spread_seconds = spread * bench.scale
            values = {"ahead": _AHEAD_SECONDS, "spread": spread_seconds, "size": size}
            rows.execute(_MAKE, values)
            late = _fired(rows, beat, size)
            bench.note("late, p50", name, number, percentile(late, 50), "s")
            bench.note("late, p99", name, number, percentile(late, 99), "s")
            bench.note("latest", name, number, max(late), "s")


def _fired(rows: psycopg.Connection[Any], beat: Process, size: int) -> list[float]:
    """Wait until each has fired; return by how many seconds each was late."""
    deadline = time.monotonic() + _LONGEST_SECONDS
    while True:
        beat.check()
        late = [float(seconds) for (seconds,) in rows.execute(_LATE).fetchall()]
        if len(late) == size:
            return late
        if len(late) > size or time.monotonic() > deadline:
            raise BenchError(f"{len(late)} of {size} schedules have fired\n{beat.tail()}")
        time.sleep(0.5)
