"""Every side of the benchmark can be prepared, filled, drained, timed and cleared."""

from collections.abc import Iterator

import pytest

from bench.questions.drain import SIDES, drain
from bench.running import Control, wait_for_count
from bench.sides import CELERY_DELAYED, FAST, OURS, PEERS_PYTHON, Side
from bench.yard import Yard, open_yard
from tests.services import Services

PEERS = [side for side in (*SIDES, CELERY_DELAYED) if not side.is_ours]
COUNT = 200  # More than one process takes ahead.


@pytest.fixture
def yard(services: Services) -> Iterator[Yard]:
    for name in ("postgres", "redis", "amqp"):
        services.require(name)
    with open_yard() as opened:
        yield opened


def drain_and_clear(yard: Yard, control: Control) -> None:
    control.call("fill", count=COUNT)
    assert drain(yard, control, COUNT) > 0
    control.call("clear")
    assert control.call("outcomes") in {0, None}


def delays_of(yard: Yard, control: Control) -> list[float]:
    with yard.worker(control.side) as (process, tally):
        control.call("stamped", count=3, gap=0.01)
        wait_for_count(process, tally, 3)
        return tally.delays_ms()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ours(yard: Yard) -> None:
    with yard.control(OURS) as control:
        drain_and_clear(yard, control)
        assert all(late > 0 for late in delays_of(yard, control))
        control.call("delay", count=4, low=0.5, high=1.0)
        with yard.worker(OURS) as (process, tally):
            wait_for_count(process, tally, 4)
            # The stamp of a delayed run counts from the moment that it is due.
            assert min(tally.delays_ms()) >= 0
        assert control.call("beyond_rounding", count=4) > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not PEERS_PYTHON.exists(), reason="no peers without `make bench-setup`")
@pytest.mark.parametrize("side", PEERS, ids=lambda side: side.name)
def test_a_peer(yard: Yard, side: Side) -> None:
    with yard.control(side) as control:
        drain_and_clear(yard, control)
        assert all(late > 0 for late in delays_of(yard, control))


def test_the_names_of_sides_differ() -> None:
    names = [side.name for side in (*SIDES, CELERY_DELAYED)]
    assert len(set(names)) == len(names)
    assert (OURS.is_ours, FAST.is_ours, PEERS[0].is_ours) == (True, True, False)
