from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from app.celery_worker.slots import PATIENCE, UrgentFirst, put_urgent_first


@dataclass
class Request:
    name: str
    queue: str

    @property
    def delivery_info(self) -> dict[str, str]:
        return {"routing_key": f"p.default{self.queue}"}


def waiter(name: str, queue: str = "") -> tuple[Any, ...]:
    return print, (Request(name, queue),), {}


def names(waiting: UrgentFirst) -> list[str]:
    return [waiting.popleft()[1][0].name for _ in range(len(waiting))]


def test_urgent_requests_go_first_and_equals_in_their_order() -> None:
    waiting = UrgentFirst()
    for name, queue in (("low", ".low"), ("a", ""), ("b", ""), ("high", ".high")):
        waiting.append(waiter(name, queue))
    assert names(waiting) == ["high", "a", "b", "low"]


def test_nothing_is_passed_over_for_ever() -> None:
    waiting = UrgentFirst()
    waiting.append(waiter("low", ".low"))
    for number in range(20):
        waiting.append(waiter(str(number), ".high"))
    assert names(waiting).index("low") == PATIENCE


def test_an_empty_one_raises_as_a_deque_does() -> None:
    waiting = UrgentFirst()
    waiting.append(waiter("a"))
    waiting.clear()
    with pytest.raises(IndexError):
        waiting.popleft()


def test_a_waiter_that_is_no_request_is_normal() -> None:
    waiting = UrgentFirst()
    waiting.append((print, (), {}))
    waiting.append(waiter("high", ".high"))
    assert waiting.popleft()[1][0].name == "high"
    assert waiting.popleft() == (print, (), {})


class Worker:
    """A worker with a pool of so many slots, which remembers what it started."""

    def __init__(self, slots: int, reserved: int) -> None:
        self.semaphore = LaxBoundedSemaphore(slots)
        self._quick_acquire = self.semaphore.acquire
        self.started: list[str] = []
        put_urgent_first(self, reserved)

    def take(self, name: str, queue: str = "") -> None:
        self._quick_acquire(self._run, Request(name, queue))

    def _run(self, request: Request) -> None:
        self.started.append(request.name)


def test_the_pools_semaphore_keeps_the_order() -> None:
    worker = Worker(1, reserved=0)
    for name, queue in (("first", ""), ("low", ".low"), ("normal", ""), ("high", ".high")):
        worker.take(name, queue)
    assert worker.started == ["first"]
    for _ in range(3):
        worker.semaphore.release()
    assert worker.started == ["first", "high", "normal", "low"]
    worker.semaphore.release()
    assert worker.semaphore.value == 1


def test_a_reserved_slot_is_free_for_an_urgent_request() -> None:
    worker = Worker(3, reserved=1)
    for name in ("a", "b", "c"):
        worker.take(name)
    assert worker.started == ["a", "b"]
    worker.take("high", ".high")
    assert worker.started == ["a", "b", "high"]
    # The slot that comes back first is the reserve again; the next one is for whoever waits.
    worker.semaphore.release()
    assert worker.started == ["a", "b", "high"]
    worker.semaphore.release()
    assert worker.started == ["a", "b", "high", "c"]
    assert worker.semaphore.value == 1


def test_urgent_requests_use_every_slot() -> None:
    worker = Worker(3, reserved=1)
    for number in range(4):
        worker.take(str(number), ".high")
    assert worker.started == ["0", "1", "2"]
    worker.semaphore.release()
    assert worker.started == ["0", "1", "2", "3"]


def test_a_pool_never_keeps_all_its_slots() -> None:
    worker = Worker(1, reserved=1)
    worker.take("a")
    worker.take("b")
    assert worker.started == ["a"]
    worker.semaphore.release()
    assert worker.started == ["a", "b"]


def test_a_reserve_starves_nobody() -> None:
    worker = Worker(2, reserved=1)
    worker.take("running")
    worker.take("normal")
    for number in range(10):
        worker.take(f"high {number}", ".high")
    for _ in range(10):
        worker.semaphore.release()
    assert worker.started.index("normal") == 2 + PATIENCE


def test_a_pool_without_a_semaphore_is_left_alone() -> None:
    threads = SimpleNamespace(semaphore=None)
    put_urgent_first(threads, 1)
    assert vars(threads) == {"semaphore": None}
