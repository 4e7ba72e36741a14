"""What an adapter offers, and the loop in which the harness asks for it.

`python -m bench.peers MODULE serve` answers requests, one JSON document per line, and
`python -m bench.peers MODULE worker PROFILE` becomes the peer's own worker. A module has its
adapter's factory as `open_adapter`. Where the services are, and a prefix for every name, stands in
the environment.
"""

import json
import os
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

AMQP_URL: Final = "BENCH_AMQP_URL"
POSTGRES_URL: Final = "BENCH_POSTGRES_URL"
REDIS_URL: Final = "BENCH_REDIS_URL"
PREFIX: Final = "BENCH_PREFIX"
# Both processes of every worker; and what each process may hold of a queue of tiny tasks.
PROCESSES: Final = 2
PREFETCH: Final = 16
_POLL_SECONDS: Final = 0.005


class Adapter(ABC):
    """A way to have tasks done. Each method returns when what it does is done."""

    @abstractmethod
    def worker(self, profile: str) -> Sequence[str]:
        """Return the command line of a worker with two processes."""

    @abstractmethod
    def prepare(self) -> None:
        """Make tables and queues."""

    @abstractmethod
    def fill(self, count: int) -> None:
        """Accept so many tasks that do nothing; they are safe when this returns."""

    def stamped(self) -> None:
        """Accept one task that tells how long after this call it started."""
        raise NotImplementedError

    def delay(self, count: int, low: float, high: float) -> None:
        """Accept so many stamped tasks, due evenly from `low` to `high` seconds from now; they
        wait at the broker when this returns.
        """
        raise NotImplementedError

    def beyond_rounding(self, count: int) -> float:
        """Return by how many milliseconds the latest of the last so many delayed tasks was later
        than the rounding of its delay explains.
        """
        raise NotImplementedError

    def outcomes(self) -> int | None:
        """Return how many tasks have their outcome committed; None where none is kept."""
        return None

    @abstractmethod
    def clear(self) -> None:
        """Forget every task and outcome."""

    @abstractmethod
    def remove(self) -> None:
        """Remove what `prepare` made."""


def serve(adapter: Adapter) -> None:
    """Answer requests until standard input ends."""
    calls: dict[str, Callable[..., Any]] = {
        "prepare": adapter.prepare,
        "fill": lambda count: _timed(lambda: adapter.fill(count)),
        "delay": lambda count, low, high: _timed(lambda: adapter.delay(count, low, high)),
        "settle": lambda count: _settled(adapter, count),
        "stamped": lambda count, gap: _stamped(adapter, count, gap),
        "beyond_rounding": adapter.beyond_rounding,
        "outcomes": adapter.outcomes,
        "clear": adapter.clear,
        "remove": adapter.remove,
    }
    # What a library prints must not look like an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": calls[request.pop("call")](**request)}
        except Exception as error:  # noqa: BLE001 - the harness tells it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def tool(name: str) -> str:
    """Return the path of a program of this environment."""
    return os.path.join(os.path.dirname(sys.executable), name)  # noqa: PTH118, PTH120 - one line


def one_each(command: Sequence[str]) -> list[str]:
    """Return a command line that runs the command once per process and passes its end on."""
    return ["/bin/sh", "-c", f"trap 'kill 0' TERM; {f'{shlex.join(command)} & ' * PROCESSES} wait"]


def name_of(kind: str) -> str:
    """Return a name on a shared service that belongs to this run of the benchmark."""
    return f"{os.environ[PREFIX]}{kind}"


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _settled(adapter: Adapter, count: int) -> int:
    """Return the moment on the monotonic clock when so many outcomes were there."""
    while (there := adapter.outcomes()) is not None and there < count:
        time.sleep(_POLL_SECONDS)
    return time.monotonic_ns()


def _stamped(adapter: Adapter, count: int, gap: float) -> None:
    for _ in range(count):
        adapter.stamped()
        time.sleep(gap)
