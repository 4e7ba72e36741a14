from dataclasses import dataclass
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


def test_the_pools_semaphore_keeps_the_order() -> None:
    semaphore = LaxBoundedSemaphore(1)
    put_urgent_first(semaphore)
    done: list[str] = []

    def run(request: Request) -> None:
        done.append(request.name)

    for name, queue in (("first", ""), ("low", ".low"), ("normal", ""), ("high", ".high")):
        semaphore.acquire(run, Request(name, queue))
    assert done == ["first"]
    for _ in range(3):
        semaphore.release()
    assert done == ["first", "high", "normal", "low"]
    semaphore.release()
    assert semaphore.value == 1


def test_a_pool_without_a_semaphore_is_left_alone() -> None:
    put_urgent_first(None)
