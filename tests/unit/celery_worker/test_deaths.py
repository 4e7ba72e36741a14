from typing import Any

import pytest

from app.celery_worker.deaths import notice_deaths


class Pool:
    """A pool whose child can be waited for only at the given look."""

    def __init__(self, reaped_at: int) -> None:
        self._pool = ["child"]
        self._reaped_at = reaped_at
        self.looks = 0

    def maintain_pool(self) -> None:
        self.looks += 1
        if self.looks >= self._reaped_at:
            self._pool.clear()

    def report_exit(self, hub: Any) -> None:
        self._event_process_exit(hub, "child")

    @property
    def children(self) -> list[str]:
        return self._pool

    def _event_process_exit(self, hub: Any, process: Any) -> None:
        self.maintain_pool()


class Hub:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def call_later(self, seconds: float, call: Any, *arguments: Any) -> None:
        assert seconds > 0
        self.calls.append((call, arguments))

    def run(self) -> None:
        while self.calls:
            call, arguments = self.calls.pop()
            call(*arguments)


class Worker:
    def __init__(self, pool: Any) -> None:
        self.pool = type("TaskPool", (), {"_pool": pool})()


def exit_of(pool: Pool) -> int:
    """Report the child's exit and return how often the pool looked for it."""
    hub = Hub()
    notice_deaths(Worker(pool))
    pool.report_exit(hub)
    hub.run()
    return pool.looks


@pytest.mark.parametrize("look", [1, 2, 7])
def test_a_pool_looks_until_it_has_found_its_dead_child(look: int) -> None:
    pool = Pool(look)
    assert exit_of(pool) == look
    assert pool.children == []


def test_a_child_that_lives_on_is_not_looked_for_for_ever() -> None:
    assert 2 < exit_of(Pool(1000)) < 100


def test_a_pool_without_processes_is_left_alone() -> None:
    notice_deaths(Worker(object()))
    notice_deaths(object())
