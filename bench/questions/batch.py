"""How many runs per second does one request with 10,000 of them accept?

Ours over HTTP, JSON and checks included, until the answer: every run is durable then, and the
messages go out behind it (the time until the last is confirmed is told as well). procrastinate by
one `batch_defer`, Celery by `apply_async` in a loop, both called in the process.
"""

import contextlib
import json
import time
import urllib.request

from bench.apis import Api, serving
from bench.questions.accept import settle, watching
from bench.rounds import Bar, Bench
from bench.running import Control
from bench.sides import CELERY_REDIS, OURS, PROCRASTINATE

TITLE = "a batch of 10,000"
RATE = "accepted"
BARS = (
    Bar(RATE, OURS.name, PROCRASTINATE.name, "at least", 10.0),
    Bar(RATE, OURS.name, CELERY_REDIS.name, "at least", 3.0),
)
_SIZE = 10_000


def measure(bench: Bench) -> None:
    """Send one batch to each side in turn."""
    size = bench.of(_SIZE)
    body = json.dumps({"items": [{"task": "bench.nothing", "params": {}}] * size}).encode()
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(serving(bench.yard, OURS))
        rows = stack.enter_context(watching(bench.yard))
        peers = bench.controls(stack, (PROCRASTINATE, CELERY_REDIS))
        turns: list[Api | Control] = [api, *peers]
        for number, turn in bench.turns(turns):
            if isinstance(turn, Control):
                seconds = turn.call("fill", count=size)
                turn.call("clear")
            else:
                seconds = _post(turn, body, size)
                bench.note("seconds until all were sent", turn.side, number, settle(rows), "s")
            bench.note(RATE, turn.side, number, size / seconds, "1/s")


def _post(api: Api, body: bytes, size: int) -> float:
    """Return the seconds until the batch was answered."""
    headers = {"Content-Type": "application/json", **api.headers}
    request = urllib.request.Request(f"{api.url}/batch", body, headers)  # noqa: S310 - http
    started = time.perf_counter()
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - http
        content = answer.read()
    seconds = time.perf_counter() - started
    if (accepted := len(json.loads(content)["task_ids"])) != size:
        raise RuntimeError(f"{accepted} of {size} accepted")
    return seconds
