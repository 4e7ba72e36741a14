"""Kills of beats in the middle of firing, at random and at the two places that matter."""

import pytest

from app.common.failpoints import VARIABLE
from tests.integration.faults.schedule_firings import PLACES, run_schedule_firings
from tests.integration.faults.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEED = 17


def test_kills_of_the_leading_beat_miss_nothing_and_double_nothing(stack: Stack) -> None:
    if len(stack.beats) == 1:
        stack.add_beat()
    report = run_schedule_firings(
        stack, schedules=5, every_seconds=1, firings=60, kills=2, seed=SEED
    )
    assert (report.missed, report.doubled) == (0, 0), (report, stack.folder)
    assert report.verdict.faults == {}, (report, stack.folder)
    assert report.firings >= 60
    assert report.killed == 2


@pytest.mark.parametrize("place", sorted(PLACES))
def test_a_beat_that_dies_around_its_commit(stack: Stack, place: str) -> None:
    for beat in stack.beats:
        beat.end()
        # The supervisor starts it again without the failpoint.
        beat.start(**{VARIABLE: f"{place}=exit:1"})
    report = run_schedule_firings(
        stack, schedules=2, every_seconds=1, firings=20, kills=0, seed=SEED
    )
    assert (report.missed, report.doubled) == (0, 0), (report, stack.folder)
    assert report.verdict.faults == {}, (report, stack.folder)
    assert report.restarts > 0
