"""How many runs per second does the API accept, each durable before its answer?

Against the endpoint that a user would write by hand, and against one that does nothing; 32
connections, one server process each, no worker. Ours also checks a token, the task's name and
schema, and the options.
"""

import contextlib
import time

import psycopg
from sqlalchemy.engine import make_url

from bench.apis import BARE, NOTHING, PLAIN, Api, serving
from bench.load import generator, post_for
from bench.rounds import Bar, Bench
from bench.sides import OURS
from bench.yard import Yard

TITLE = "POST /api/v1/tasks/run, 32 connections"
RATE = "durable accepts"
BARS = (
    Bar(RATE, OURS.name, PLAIN.name, "at least", 3.0),
    Bar(RATE, OURS.name, BARE.name, "at least", 0.30, aim=0.35),
)
_SECONDS = 6.0
_SENT_SECONDS = 60.0
_COUNT = "SELECT count(*), count(*) FILTER (WHERE published_at IS NULL) FROM task_runs"

Rows = psycopg.Connection[tuple[int, int]]


def measure(bench: Bench) -> None:
    """Load one server after the other, all of which are up the whole time."""
    bench.remark(f"load by {generator()}")
    seconds = bench.of(_SECONDS, least=2)
    with contextlib.ExitStack() as stack:
        apis = [stack.enter_context(serving(bench.yard, side)) for side in (OURS, PLAIN, BARE)]
        rows = stack.enter_context(watching(bench.yard))
        for api in apis:
            post_for(api.url, NOTHING, 1.0, headers=api.headers)
        settle(rows)
        for number, api in bench.turns(apis):
            _load(bench, number, api, seconds, rows)


def _load(bench: Bench, number: int, api: Api, seconds: float, rows: Rows) -> None:
    before = rows.execute(_COUNT).fetchone()
    load = post_for(api.url, NOTHING, seconds, headers=api.headers)
    bench.note(RATE, api.side, number, load.rate, "1/s")
    bench.note("p50", api.side, number, load.p50_ms, "ms")
    bench.note("p99", api.side, number, load.p99_ms, "ms")
    if load.refused:
        raise RuntimeError(f"{api.side.name} refused {load.refused} requests")
    if not api.side.is_ours:
        return
    after = rows.execute(_COUNT).fetchone()
    assert before is not None and after is not None  # noqa: S101, PT018 - counts always return
    if after[0] - before[0] < load.accepted:
        raise RuntimeError(f"{load.accepted} accepted, {after[0] - before[0]} rows")
    bench.note("not sent at the end of the load", api.side, number, after[1], "runs")
    bench.note("seconds until all were sent", api.side, number, settle(rows), "s")


def watching(yard: Yard) -> Rows:
    """Return a connection to our database."""
    url = make_url(yard.database("taskyard")).set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


def settle(rows: Rows) -> float:
    """Wait until every run has its message; return the seconds."""
    started = time.perf_counter()
    while (found := rows.execute(_COUNT).fetchone()) and found[1]:
        if time.perf_counter() - started > _SENT_SECONDS:
            raise RuntimeError(f"{found[1]} runs have no message after {_SENT_SECONDS:g} s")
        time.sleep(0.02)
    return time.perf_counter() - started
