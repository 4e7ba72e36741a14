"""The rows of recovery times: ten of each, median and worst, beside stock Celery."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

from scripts.chaos_lib.report import Row
from scripts.chaos_lib.yard import Yard
from tests.integration.faults import recovery
from tests.integration.faults.recovery import Ours, Side, Stock, told

_TIMES: Final = 10
_BROKER_AWAY_SECONDS: Final = 15.0
_POSTGRES_AWAY_SECONDS: Final = 3.0


def child(yard: Yard) -> Iterator[Row]:
    """Yield the row of killed child processes."""
    yield _killed(yard, "worker child killed → running again", 5.0, recovery.child_killed)


def main(yard: Yard) -> Iterator[Row]:
    """Yield the row of killed main processes."""
    yield _killed(yard, "worker main killed → running again", 20.0, recovery.main_killed)


def broker(yard: Yard) -> Iterator[Row]:
    """Yield the row of a broker that comes back; both sides wait for the same one."""
    seconds: dict[str, list[float]] = {}
    with _sides(yard) as sides:
        for _ in range(yard.of(_TIMES)):
            yard.broker.stop()
            time.sleep(_BROKER_AWAY_SECONDS)
            yard.broker.start()
            back = time.monotonic()
            for side, run_id in [(side, side.submit(0.0)) for side in sides]:
                started = recovery.await_start(side, run_id, 1)[3]
                seconds.setdefault(side.name, []).append(max(0.0, started - back))
    ours, stock = seconds[Ours.name], seconds[Stock.name]
    yield Row(
        f"broker back after {_BROKER_AWAY_SECONDS:.0f} s → consuming, "
        "median / worst of " + str(len(ours)),
        "aim 6 s",
        f"{told(ours)}; stock Celery {told(stock)}",
        met=max(ours) <= 6.0,
    )


def postgres(yard: Yard) -> Iterator[Row]:
    """Yield the row of a database that comes back."""
    with yard.stack(workers=1) as stack:
        seconds = [
            recovery.postgres_back(stack, yard.postgres, away_seconds=_POSTGRES_AWAY_SECONDS)
            for _ in range(yard.of(_TIMES))
        ]
    yield Row(
        f"Postgres back → ready, median / worst of {len(seconds)}",
        "aim 5 s",
        f"{told(seconds)}; stock Celery has no database",
        met=max(seconds) <= 5.0,
    )


def _killed(yard: Yard, name: str, aim: float, measure: Callable[[Side], float]) -> Row:
    times = yard.of(_TIMES)
    with _sides(yard) as sides:
        seconds = {side.name: [measure(side) for _ in range(times)] for side in sides}
    ours, stock = seconds[Ours.name], seconds[Stock.name]
    return Row(
        f"{name}, median / worst of {times}",
        f"aim {aim:.0f} s",
        f"{told(ours)}; stock Celery {told(stock)}",
        met=max(ours) <= aim,
    )


@contextlib.contextmanager
def _sides(yard: Yard) -> Iterator[tuple[Side, Side]]:
    with yard.stack(workers=2) as stack:
        stock = Stock(yard.kit, yard.broker, stack.environ, workers=2)
        try:
            yield Ours(stack), stock
        finally:
            stock.end()


RECOVERIES: Final[dict[str, Callable[[Yard], Iterator[Row]]]] = {
    "recovery-child": child,
    "recovery-main": main,
    "recovery-broker": broker,
    "recovery-postgres": postgres,
}
