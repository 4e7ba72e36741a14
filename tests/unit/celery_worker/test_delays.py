from hypothesis import given
from hypothesis import strategies as st

from app.celery_worker.delays import LADDER_SECONDS, rung_for

RUNGS = [round(rung * 1000) for rung in LADDER_SECONDS]


@given(st.floats(min_value=0.1, max_value=3600))
def test_a_rung_is_never_late_by_more_than_a_quarter_second_or_two_percent(delay: float) -> None:
    rung = rung_for(delay)
    assert rung in RUNGS
    assert rung / 1000 <= delay + max(0.25, delay * 0.02) + 1e-9


@given(st.floats(min_value=0.1, max_value=3600))
def test_a_rung_below_the_delay_is_the_largest_one(delay: float) -> None:
    rung = rung_for(delay) / 1000
    if rung < delay:
        assert not [step for step in LADDER_SECONDS if rung < step <= delay]


@given(st.floats(min_value=0.001, max_value=1e7))
def test_early_wake_ups_come_to_an_end(delay: float) -> None:
    hops = 0
    while delay > 0:
        delay -= rung_for(delay) / 1000
        hops += 1
        assert hops < 1e7 / 3600 + 10


def test_each_rung_takes_its_own_delay() -> None:
    assert [rung_for(rung) for rung in LADDER_SECONDS] == RUNGS


def test_what_is_due_has_no_rung() -> None:
    assert rung_for(0.0) == 0
    assert rung_for(-5.0) == 0


def test_the_smallest_delay_takes_the_first_rung() -> None:
    assert rung_for(0.001) == 100


def test_more_than_the_ladder_takes_its_last_rung() -> None:
    assert rung_for(86_400.0) == 3_600_000


def test_a_far_rung_above_is_not_taken() -> None:
    assert rung_for(8.0) == 7500
    assert rung_for(2.9) == 3000
    assert rung_for(60.5) == 60_000
