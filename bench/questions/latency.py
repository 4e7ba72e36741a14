"""How long after its submission does a task start when the system has nothing else to do?

One task every 30 ms, each with the moment of its submission as a parameter; the task subtracts it
from the same clock. All are submitted from a process of their own by calling the library; ours
over HTTP stands beside it, since that is how most will submit.
"""

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable

from bench.apis import Api, serving
from bench.rounds import Bar, Bench
from bench.running import wait_for_count
from bench.sides import (
    CELERY_REDIS,
    DRAMATIQ,
    FAST,
    OURS,
    OURS_HTTP,
    PROCRASTINATE,
    STREAQ,
    TASKIQ,
    Side,
)
from bench.statistics import percentile

TITLE = "from submission to start, nothing else to do"
P50, P99 = "p50", "p99"
BARS = (
    Bar(P50, OURS.name, CELERY_REDIS.name, "at most", 1.0),
    Bar(P99, OURS.name, CELERY_REDIS.name, "at most", 0.5),
)
_SIDES = (OURS, FAST, CELERY_REDIS, TASKIQ, DRAMATIQ, PROCRASTINATE, STREAQ)
_SIZE = 200
_WARM_UP = 30
_GAP_SECONDS = 0.03
Send = Callable[[int], None]


def measure(bench: Bench) -> None:
    """Submit to one idle worker after the other."""
    size = bench.of(_SIZE, least=20)
    with contextlib.ExitStack() as stack:
        sends: list[tuple[Side, Send]] = []
        for control in bench.controls(stack, _SIDES):
            call = control.call
            sends.append(
                (control.side, lambda n, call=call: call("stamped", count=n, gap=_GAP_SECONDS))  # type: ignore[misc]
            )
        if bench.wants(OURS_HTTP):
            api = stack.enter_context(serving(bench.yard, OURS_HTTP))
            sends.append((OURS_HTTP, lambda n: _post(api, n)))
        for number, (side, send) in bench.turns(sends):
            with bench.trying(side):
                late = _delays(bench, side, send, size)
                bench.note(P50, side, number, percentile(late, 50), "ms")
                bench.note(P99, side, number, percentile(late, 99), "ms")


def _delays(bench: Bench, side: Side, send: Send, size: int) -> list[float]:
    """Return the milliseconds of so many tasks, after some that do not count."""
    with bench.yard.worker(side) as (process, tally):
        send(_WARM_UP)
        wait_for_count(process, tally, _WARM_UP)
        tally.forget_stamps()
        send(size)
        wait_for_count(process, tally, _WARM_UP + size)
        return tally.delays_ms()


def _post(api: Api, count: int) -> None:
    headers = {"Content-Type": "application/json", **api.headers}
    for _ in range(count):
        body = {"task": "bench.stamped", "params": {"sent_ns": time.monotonic_ns()}}
        request = urllib.request.Request(api.url, json.dumps(body).encode(), headers)  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - http
            answer.read()
        time.sleep(_GAP_SECONDS)
