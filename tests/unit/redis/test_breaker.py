import pytest

from app.redis.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(
        first_pause_seconds=1, longest_pause_seconds=8, calm_after_seconds=30, clock=clock
    )


def pause_of(breaker: Breaker, clock: Clock) -> float:
    """Return how long the breaker stays shut, to a tenth of a second."""
    started = clock.now
    while not breaker.take_probe():
        clock.now += 0.1
    return clock.now - started


def test_one_failure_opens_it(breaker: Breaker) -> None:
    assert breaker.is_closed
    breaker.failed(OSError("refused"))
    assert breaker.state == "open"
    assert not breaker.take_probe()


def test_a_closed_breaker_needs_no_probe(breaker: Breaker) -> None:
    assert not breaker.take_probe()
    breaker.succeeded()
    assert breaker.is_closed


def test_one_caller_at_a_time_probes(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(OSError())
    clock.now += 2
    assert breaker.take_probe()
    assert breaker.state == "probing"
    assert not breaker.take_probe()
    breaker.succeeded()
    assert breaker.is_closed


def test_a_probe_that_never_reports_is_replaced(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(OSError())
    clock.now += 2
    assert breaker.take_probe()
    clock.now += 2
    assert breaker.take_probe()


def test_failed_probes_make_the_pause_longer_up_to_a_limit(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(OSError())
    pauses = []
    for _ in range(6):
        pauses.append(pause_of(breaker, clock))
        breaker.failed(OSError())
    expected = [1, 2, 4, 8, 8, 8]
    assert all(
        0.8 * want - 0.2 <= got <= 1.2 * want + 0.2
        for want, got in zip(expected, pauses, strict=True)
    )


def test_late_failures_of_one_outage_do_not_make_it_longer(breaker: Breaker, clock: Clock) -> None:
    for _ in range(50):
        breaker.failed(OSError())
    assert pause_of(breaker, clock) <= 1.4


def test_a_store_that_flaps_is_left_alone_for_longer(breaker: Breaker, clock: Clock) -> None:
    last = 0.0
    for _ in range(4):
        breaker.failed(OSError())
        last = pause_of(breaker, clock)
        breaker.succeeded()
        clock.now += 1
    assert last > 6


def test_after_a_calm_time_the_pause_is_short_again(breaker: Breaker, clock: Clock) -> None:
    for _ in range(4):
        breaker.failed(OSError())
        pause_of(breaker, clock)
        breaker.succeeded()
    clock.now += 31
    breaker.failed(OSError())
    assert pause_of(breaker, clock) <= 1.4
