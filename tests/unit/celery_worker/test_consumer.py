from dataclasses import dataclass, field
from typing import Any

import pytest
from celery.worker import state
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from app.celery_worker.consumer import RunConsumer


@dataclass
class Controller:
    semaphore: Any = field(default_factory=lambda: LaxBoundedSemaphore(3))


@dataclass(eq=False)
class Request:
    id: str = "run"


@pytest.mark.parametrize(("running", "free"), [(0, 3), (2, 1), (3, 0), (5, 0)])
def test_a_lost_connection_leaves_the_slots_of_what_runs(running: int, free: int) -> None:
    consumer: Any = RunConsumer.__new__(RunConsumer)
    consumer.controller = Controller()
    consumer.task_buckets = {}
    consumer.pool = consumer.timer = None
    requests = [Request() for _ in range(running)]
    for request in requests:
        state.active_requests.add(request)
    for _ in range(3):
        consumer.controller.semaphore.acquire(lambda: None)
    try:
        consumer.on_close()
    finally:
        state.active_requests.clear()
        state.reserved_requests.clear()
    assert consumer.controller.semaphore.value == free
