"""What a worker's main process makes of the pool's errors."""

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # not in the stubs
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError

from app.celery_worker.requests import PoolWork, RunRequest, loss_of
from app.tasks.losses import WorkerLost


@pytest.mark.parametrize(
    ("error", "type_", "told"),
    [
        (WorkerLostError("Worker exited prematurely: signal 9 Job: 3."), WorkerLost, "signal 9"),
        (Terminated(15), WorkerLost, "15"),
        (SystemExit(), WorkerLost, "SystemExit"),
        (TimeLimitExceeded(11.5), TimeoutError, "11.5 s"),
    ],
)
def test_the_end_of_a_process_is_a_loss(error: Any, type_: type, told: str) -> None:
    for given in (error, ExceptionWithTraceback(error, None)):
        loss = loss_of(given)
        assert type(loss) is type_
        assert told in str(loss)
        assert "Job" not in str(loss)


def test_what_a_process_reports_itself_is_none() -> None:
    assert loss_of(ValueError("the task's own")) is None


@pytest.fixture(autouse=True)
def database_is_there() -> Iterator[None]:
    yield
    PoolWork.database_away_until = 0.0


def request(pid: int | None) -> RunRequest:
    made: Any = RunRequest.__new__(RunRequest)
    made.id = "run"
    made.worker_pid = pid
    return cast("RunRequest", made)


@pytest.mark.parametrize(
    ("pid", "elsewhere"),
    [(None, False), (os.getpid(), False), (1, True)],
    ids=["none", "this", "another"],
)
def test_only_a_process_of_its_own_can_be_lost(pid: int | None, elsewhere: bool) -> None:
    assert request(pid).is_elsewhere is elsewhere


def test_a_database_that_is_away_is_asked_once_for_many_losses() -> None:
    asked = []

    class Losing(RunRequest):
        def record(self, error: Exception) -> None:
            asked.append(error)
            raise OSError("away")

    lost = Losing.__new__(Losing)
    lost.id = "run"
    for _ in range(3):
        lost.try_to_record(WorkerLost("killed"))
    assert len(asked) == 1
    assert PoolWork.database_away_until > time.monotonic()
    PoolWork.database_away_until = 0.0
    lost.try_to_record(WorkerLost("killed"))
    assert len(asked) == 2


def test_a_failure_of_the_task_is_left_to_celery() -> None:
    class Celerys(RunRequest):
        def try_to_record(self, error: Exception) -> None:
            raise AssertionError(error)

    made: Any = Celerys.__new__(Celerys)
    made.worker_pid = 1
    with pytest.raises(AttributeError):
        # Celery's own part needs a whole request; it was reached without a record.
        made.on_failure(SimpleNamespace(exception=ValueError("the task's own")))
