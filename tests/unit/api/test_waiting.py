"""How soon `Prefer: wait` sees a run's end, on a clock that jumps from one event to the next."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request

from app.api.waiting import wait_for_end
from app.auth.principal import Principal
from app.tasks.runs import Runs


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop on which no time passes but that which it would sleep."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        selector: Any = self._selector  # type: ignore[attr-defined]  # the only place to hold time
        select = selector.select

        def jump(timeout: float | None) -> Any:
            self._now += timeout or 0.0
            return select(0)

        selector.select = jump

    def time(self) -> float:
        return self._now


class RunThatEnds:
    """A run that is looked at: it has ended from one moment on."""

    def __init__(self, ends_at: float) -> None:
        self._ends_at = ends_at
        self.looks = 0

    async def get(self, _task_id: str, _caller: Principal) -> Any:
        self.looks += 1
        has_ended = asyncio.get_running_loop().time() >= self._ends_at
        return SimpleNamespace(status="SUCCEEDED" if has_ended else "RUNNING")


async def stays() -> bool:
    return False


def waited(run: RunThatEnds, seconds: float) -> tuple[str, float]:
    request = SimpleNamespace(is_disconnected=stays)
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        found = runner.run(
            wait_for_end(
                cast("Runs", run),
                "id",
                cast("Principal", None),
                seconds,
                cast("Request", request),
            )
        )
        return found.status, runner.get_loop().time()


@pytest.mark.parametrize("ends_at", [0.0, 0.02, 0.1, 1.0, 10.0])
def test_the_answer_is_late_by_a_small_share_of_the_time_that_the_run_took(ends_at: float) -> None:
    run = RunThatEnds(ends_at)
    status, took = waited(run, 30)
    assert status == "SUCCEEDED"
    assert took <= ends_at + max(0.008, 0.21 * ends_at)


def test_a_long_wait_is_looked_at_seldom_and_ends_in_time() -> None:
    run = RunThatEnds(1000)
    status, took = waited(run, 30)
    assert status == "RUNNING"
    assert took == pytest.approx(30)
    assert run.looks < 90
