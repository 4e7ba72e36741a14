from typing import Any

import pytest

from app.celery_worker.deaths import notice_deaths


class Pool:
    """A pool whose child can be waited for only at the given look."""

    def __init__(self, reaped_at: int) -> None:
        self._pool = ["child"]
        self._reaped_at = reaped_at
        self.looks = 0
        self.tracked: list[Any] = []

    def maintain_pool(self) -> None:
        self.looks += 1
        if self.looks >= self._reaped_at:
            self._pool.clear()

    def report_exit(self, hub: Any) -> None:
        self._event_process_exit(hub, "child")

    def track(self, process: Any, hub: Any) -> None:
        self._track_child_process(process, hub)

    @property
    def children(self) -> list[str]:
        return self._pool

    def _event_process_exit(self, hub: Any, process: Any) -> None:
        self.maintain_pool()

    def _track_child_process(self, process: Any, hub: Any) -> None:
        self.tracked.append(process)


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


class Child:
    """A child as the pool has left it: without a descriptor when its end was seen."""

    def __init__(self, *, has_ended: bool) -> None:
        if has_ended:
            self._sentinel_poll = None


def test_after_a_reconnect_a_dead_child_is_looked_for_and_not_watched() -> None:
    pool, hub = Pool(2), Hub()
    notice_deaths(Worker(pool))
    living, dead = Child(has_ended=False), Child(has_ended=True)
    pool.children[:] = [living, dead]  # type: ignore[list-item]  # any objects will do
    pool.track(living, hub)
    pool.track(dead, hub)
    assert pool.tracked == [living]
    hub.run()
    assert pool.looks == 2


def test_a_pool_without_processes_is_left_alone() -> None:
    notice_deaths(Worker(object()))
    notice_deaths(object())
