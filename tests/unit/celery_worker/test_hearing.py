from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import RecoverableConnectionError
from celery.worker import state
from sqlalchemy import text

from app.celery_worker.hearing import Hearing
from app.common.ids import new_id
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from tests.harness import migrate, settings_on
from tests.unit.celery_worker.stand_ins import Yard
from tests.unit.celery_worker.test_leases import running_row

PATIENCE = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class Worker:
    """A worker that consumes from `default`, and the calls that its main loop was given."""

    hub: Any = None
    calls: list[Any] = field(default_factory=list)
    queue_class: str = "default"
    consumer: Any = field(default_factory=lambda: SimpleNamespace(connection=object()))

    def __post_init__(self) -> None:
        self.hub = SimpleNamespace(call_soon=self.calls.append)

    @property
    def app(self) -> Any:
        queues = {"q": SimpleNamespace(queue_class=self.queue_class), "plain": object()}
        return SimpleNamespace(amqp=SimpleNamespace(queues=SimpleNamespace(consume_from=queues)))


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[Databases]:
    settings = settings_on(tmp_path)
    migrate(settings)
    opened = Databases(settings.databases)
    yield opened
    opened.dispose_sync()


@pytest.fixture(autouse=True)
def counters() -> Iterator[None]:
    yield
    state.active_requests.clear()
    state.reserved_requests.clear()


class Idle:
    """A worker that has been idle long enough to be asked."""

    def __init__(self, tmp_path: Path, databases: Databases) -> None:
        name = {"TASKYARD_CELERY__OVERDUE_AFTER_SECONDS": str(PATIENCE)}
        self.worker = Worker()
        self.databases = databases
        self.clock = Clock()
        site = Yard(settings=settings_on(tmp_path, **name)).site
        self.hearing = Hearing(site, self.worker, self.clock)
        self.clock.now = PATIENCE

    def check(self, after: float = 0.0) -> int:
        """Look, and return how often it has connected anew so far."""
        self.clock.now += after
        self.hearing.check(self.databases)
        return len(self.worker.calls)


@pytest.fixture
def idle(tmp_path: Path, databases: Databases) -> Idle:
    return Idle(tmp_path, databases)


def waiting_row(databases: Databases, **columns: str) -> None:
    run_id = new_id()
    running_row(databases, run_id)
    values = {"status": "PENDING", "published_at": "2001-01-01 00:00:00.000000", **columns}
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        statement = text(f"UPDATE task_runs SET {assignments} WHERE id = :id")
        connection.execute(statement, {**values, "id": run_id})


def test_an_idle_worker_with_an_overdue_run_connects_anew(idle: Idle) -> None:
    waiting_row(idle.databases)
    assert idle.check() == 1
    with pytest.raises(RecoverableConnectionError):
        idle.worker.calls[0]()


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "RUNNING"},
        {"queue": "other"},
        {"scheduled_for": "2999-01-01 00:00:00.000000"},
        {"published_at": "2999-01-01 00:00:00.000000"},
    ],
    ids=["running", "of another queue", "not due", "just published"],
)
def test_what_is_not_overlooked_leaves_the_connection_alone(
    idle: Idle, columns: dict[str, str]
) -> None:
    waiting_row(idle.databases, **columns)
    assert idle.check() == 0


def test_a_busy_worker_is_left_alone(idle: Idle) -> None:
    waiting_row(idle.databases)
    request = Worker()
    state.active_requests.add(request)
    assert idle.check() == 0
    state.active_requests.clear()
    assert idle.check(PATIENCE - 1) == 0
    assert idle.check(1) == 1


def test_a_worker_that_was_busy_in_between_is_left_alone(idle: Idle) -> None:
    waiting_row(idle.databases)
    state.all_total_count[0] += 1
    assert idle.check() == 0
    assert idle.check(PATIENCE - 1) == 0
    assert idle.check(1) == 1


def test_a_worker_that_connects_already_is_left_alone(idle: Idle) -> None:
    waiting_row(idle.databases)
    idle.worker.consumer.connection = None
    assert idle.check() == 0
    idle.worker.consumer.connection = object()
    assert idle.check(PATIENCE) == 1


def test_each_further_try_waits_twice_as_long_until_a_message_comes(idle: Idle) -> None:
    waiting_row(idle.databases)
    assert idle.check() == 1
    wait = PATIENCE
    for tries in range(1, 8):
        wait = min(wait * 2, 600)
        assert idle.check(wait - 1) == tries
        assert idle.check(1) == tries + 1
    state.all_total_count[0] += 1
    idle.check()
    assert idle.check(PATIENCE) == 9
