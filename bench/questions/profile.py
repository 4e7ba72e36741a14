"""Where does the time of a run go, from the socket to the commit of its outcome?

A sampling profiler (py-spy) looks at the API under the load of `accept`, and at the worker during
the drain of `drain`. The processor time that the kernel counts for the process and all below it,
divided by the runs, is laid out by the share of the samples: microseconds per run and stage.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.apis import NOTHING, serving
from bench.load import post_for
from bench.peers.adapter import PROCESSES
from bench.peers.tally import Tally
from bench.processes import spending
from bench.profiling import Stages, counts, record, shares
from bench.rounds import Bar, Bench
from bench.running import BenchError, Process, wait_for_count, wait_for_processes
from bench.sides import OURS

TITLE = "where the processor time of a run goes"
COLUMNS = "sides"
BARS: tuple[Bar, ...] = ()
_SECONDS = 8.0
_SIZE = 10_000
_LONGEST_SECONDS = 240.0

# Ordered: the first that a frame's path or name matches is its stage.
_SHARED: Stages = (
    ("JSON", r"app/common/strict_json|orjson|\(json/"),
    (
        "logs, metrics, traces",
        r"app/common/(logging|metrics|tracing)|structlog|prometheus_client|\(logging/",
    ),
    ("publishing to RabbitMQ", r"app/celery_worker/(publish|confirms|messages|connections)"),
    ("marking runs as published", r"app/tasks/outbox"),
    ("driver of PostgreSQL", r"asyncpg|psycopg"),
    ("SQLAlchemy", r"sqlalchemy|greenlet"),
)
_API: Stages = (
    *_SHARED,
    ("who asks", r"app/api/authentication|app/auth/|\(jwt/"),
    (
        "making the run: schema, options",
        r"app/tasks/(making|signature|registry|catalogue|requests)",
    ),
    ("accepting the run", r"app/tasks/|app/db/|app/api/accepting"),
    ("reading and checking the body", r"app/api/(body|schemas|door)"),
    ("our middleware", r"app/api/middleware"),
    ("the rest of our API", r"app/api/|app/main"),
    ("AMQP", r"amqp/|kombu/"),
    ("FastAPI, Starlette, Pydantic", r"fastapi/|starlette/|pydantic"),
)
_WORKER: Stages = (
    *_SHARED,
    ("the task itself", r"bench/"),
    (
        "leases, presence, sweeps",
        r"app/celery_worker/(leases|presence|hearing|pauses|housekeeping)",
    ),
    ("claiming and finishing", r"app/tasks/|app/db/"),
    ("our worker around Celery", r"app/celery_worker/"),
    ("between main process and child", r"billiard/|celery/concurrency"),
    ("AMQP", r"amqp/|kombu/"),
    ("Celery", r"celery/"),
    ("event loop", r"asyncio/|uvloop"),
)


def measure(bench: Bench) -> None:
    """Profile the API, then the worker, in each round."""
    for number in range(bench.rounds):
        with bench.trying(OURS):
            _api(bench, number)
            _worker(bench, number)


def _api(bench: Bench, number: int) -> None:
    seconds = bench.of(_SECONDS, least=3)
    with serving(bench.yard, OURS) as api:
        pid = api.process.popen.pid
        post_for(api.url, NOTHING, 1.0, headers=api.headers)
        with spending(pid) as used:
            load = post_for(api.url, NOTHING, seconds, headers=api.headers)
            spent = used.seconds / load.accepted
        # Apart from the first load: the profiler would be in the figure.
        with _sampled(pid, seconds) as stacks:
            post_for(api.url, NOTHING, seconds, headers=api.headers)
        _lay_out(bench, number, "API", spent, stacks, _API)


def _worker(bench: Bench, number: int) -> None:
    size = bench.of(_SIZE, least=500)
    with bench.yard.control(OURS) as control:
        control.call("fill", count=size)
        with bench.yard.worker(OURS) as (process, tally):
            spent = _drain(process, tally, size) / size
        control.call("clear")
        control.call("fill", count=size)
        with bench.yard.worker(OURS) as (process, tally):
            wait_for_processes(process, tally, PROCESSES)
            with _sampled(process.popen.pid, bench.of(_SECONDS, least=3)) as stacks:
                _drain(process, tally, size)
        _lay_out(bench, number, "worker", spent, stacks, _WORKER)


def _drain(process: Process, tally: Tally, size: int) -> float:
    """Return the processor time from the gate's opening to the last task."""
    wait_for_processes(process, tally, PROCESSES)
    with spending(process.popen.pid) as spent:
        tally.open_gate()
        wait_for_count(process, tally, size, _LONGEST_SECONDS)
        return spent.seconds


@contextlib.contextmanager
def _sampled(pid: int, seconds: float) -> Iterator[list[str]]:
    """Profile during the block, or a little longer; the stacks are in the list after it."""
    stacks: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "stacks")
        profiler = record(pid, seconds, output)
        yield stacks
        _, told = profiler.communicate()
        if profiler.returncode:
            raise BenchError(f"py-spy: {told.decode(errors='replace')}")
        stacks += output.read_text().splitlines()


def _lay_out(
    bench: Bench, number: int, where: str, seconds: float, stacks: Sequence[str], stages: Stages
) -> None:
    bench.note("processor time of a run", where, number, seconds * 1e6, "µs")
    for stage, share in shares(counts(stacks, stages, "the rest")).items():
        bench.note(stage, where, number, share * seconds * 1e6, "µs")
