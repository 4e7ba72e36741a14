"""The soft limit of a process that runs its tasks itself, and what it tells of the hard one."""

import os
import signal
import time
from collections.abc import Iterator

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from app.celery_worker.alarms import handle_alarms, limited
from app.celery_worker.begun import BegunRuns
from app.celery_worker.messages import HARD_LIMIT_GRACE_SECONDS

BEGUN = BegunRuns()


@pytest.fixture(autouse=True)
def alarms(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # This process may have left its number in a slot of the other page, as another test's child.
    monkeypatch.setattr("app.celery_worker.alarms.BEGUN", BEGUN)
    # The test run may have an alarm of its own.
    before = signal.getsignal(signal.SIGALRM)
    left = signal.setitimer(signal.ITIMER_REAL, 0)
    BEGUN.take_slot(3)
    handle_alarms()
    yield
    signal.signal(signal.SIGALRM, before)
    signal.setitimer(signal.ITIMER_REAL, *left)


def test_what_takes_longer_is_interrupted() -> None:
    with pytest.raises(SoftTimeLimitExceeded), limited(0.05):
        time.sleep(60)


def test_the_hard_limit_is_told_and_taken_back() -> None:
    # So far apart that no pause of the machine comes between.
    moment = time.monotonic() + 1000.0 + HARD_LIMIT_GRACE_SECONDS
    with limited(1000.0):
        assert not BEGUN.is_over(os.getpid(), moment - 500)
        assert BEGUN.is_over(os.getpid(), moment + 500)
    assert not BEGUN.is_over(os.getpid(), moment + 500)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_without_a_limit_nothing_is_told() -> None:
    with limited(None):
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert not BEGUN.is_over(os.getpid(), time.monotonic() + 1e6)
