"""Recovery times, of the product and of stock Celery in the same run."""

import contextlib
import signal
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import httpx2 as httpx

from tests.integration.faults import fault_tasks, processes
from tests.integration.faults.nodes import Kit, Postgres, Rabbit, free_port
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import ROOT, Program, Stack, message_of

# Long enough to be killed in the middle, short enough that the next attempt soon ends.
_RUN_SECONDS: Final = 8.0


class Side(Protocol):
    """One of the two that are measured: workers, a way to submit, and the starts that are noted."""

    name: str
    workers: list[Program]

    def submit(self, seconds: float) -> str: ...
    def starts(self) -> list[tuple[str, int, int, float]]: ...
    def consumers(self) -> int: ...
    def clear(self) -> None: ...


class Ours:
    """The product behind its own API."""

    name = "Taskyard"

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.workers = stack.workers

    def submit(self, seconds: float) -> str:
        return self.stack.submit("faults.note_start", {"seconds": seconds})

    def starts(self) -> list[tuple[str, int, int, float]]:
        return self.stack.starts()

    def consumers(self) -> int:
        return self.stack.consumers()

    def clear(self) -> None:
        """Return when nothing runs, so that the next round finds idle workers."""
        self.stack.await_all_ended()
        self.stack.await_workers()


class Stock:
    """Two workers of stock Celery on the same broker."""

    name = "stock Celery"

    def __init__(self, kit: Kit, broker: Rabbit, environ: Mapping[str, str], workers: int) -> None:
        folder = kit.folder / f"stock-{free_port()}"
        folder.mkdir()
        self._starts = folder / "starts"
        self._starts.touch()
        self._broker = broker
        settings = {
            **environ,
            "STOCK_BROKER_URL": broker.url,
            fault_tasks.STARTS_FILE: str(self._starts),
            "PYTHONPATH": str(ROOT),
        }
        self.workers = [self._worker(folder, number, settings) for number in range(workers)]
        for worker in self.workers:
            worker.start()
        wait_until(lambda: self.consumers() == workers, "stock Celery consumes")

    def _worker(self, folder: Path, number: int, settings: Mapping[str, str]) -> Program:
        celery = [sys.executable, "-m", "celery", "-A", "tests.integration.faults.stock_app"]
        options = ["worker", "--concurrency", "2", "-n", f"stock{number}@%h", "-l", "INFO"]
        return Program(
            f"stock-{number}", [*celery, *options], settings, folder / f"worker-{number}.log"
        )

    def submit(self, seconds: float) -> str:
        run_id = str(uuid.uuid4())
        body = f'[[{seconds}], {{}}, {{"callbacks": null, "errbacks": null, "chain": null}}]'
        headers = {"lang": "py", "task": "stock.sleep", "id": run_id, "root_id": run_id}
        with contextlib.closing(self._broker.connect()) as connection:
            channel: Any = connection.channel()
            channel.confirm_select()
            channel.basic_publish_confirm(message_of(body, headers), "", "stock")
        return run_id

    def starts(self) -> list[tuple[str, int, int, float]]:
        parts = [line.split() for line in self._starts.read_text().splitlines()]
        return [(run, int(attempt), int(pid), float(at)) for run, attempt, pid, at in parts]

    def consumers(self) -> int:
        try:
            with contextlib.closing(self._broker.connect()) as connection:
                channel: Any = connection.channel()
                return int(channel.queue_declare("stock", passive=True).consumer_count)
        except Exception:  # noqa: BLE001 - no broker, no queue: no consumer
            return 0

    def clear(self) -> None:
        """Return when nothing runs any more."""
        time.sleep(_RUN_SECONDS + 1.0)

    def end(self) -> None:
        for worker in self.workers:
            worker.end()


def child_killed(side: Side) -> float:
    """Return the seconds from the kill of a run's process to the run's next start."""
    return _killed(side, lambda worker, pid: processes.send([pid], signal.SIGKILL))


def main_killed(side: Side) -> float:
    """Return the seconds from the kill of a worker's main process to its run's next start."""
    seconds = _killed(side, lambda worker, pid: worker.kill())
    for worker in side.workers:
        if not worker.is_running:
            worker.start()
    wait_until(lambda: side.consumers() == len(side.workers), "the killed worker is back")
    return seconds


def _killed(side: Side, kill: Callable[[Program, int], None]) -> float:
    run_id = side.submit(_RUN_SECONDS)
    pid = await_start(side, run_id, 1)[2]
    worker = next(worker for worker in side.workers if pid in worker.children)
    time.sleep(2.0)
    before = time.monotonic()
    kill(worker, pid)
    seconds = await_start(side, run_id, 2)[3] - before
    side.clear()
    return seconds


def postgres_back(stack: Stack, postgres: Postgres, *, away_seconds: float) -> float:
    """Return the seconds from the database's first answer to the API's readiness."""
    postgres.kill()
    time.sleep(away_seconds)
    postgres.start()
    back = time.monotonic()
    wait_until(lambda: is_ready(stack), "the API is ready")
    return time.monotonic() - back


def is_ready(stack: Stack) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{stack.url}/readyz", timeout=10).status_code == 200
    return False


def await_start(side: Side, run_id: str, number: int) -> tuple[str, int, int, float]:
    """Return the first, second … start of a run as soon as it is there."""

    def starts() -> list[tuple[str, int, int, float]]:
        return [start for start in side.starts() if start[0] == run_id]

    wait_until(lambda: len(starts()) >= number, f"{side.name}: start {number} of {run_id}", 240)
    return starts()[number - 1]


def told(seconds: list[float]) -> str:
    """Return median and worst."""
    return f"{statistics.median(seconds):.1f} / {max(seconds):.1f} s"
