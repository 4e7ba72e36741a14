import itertools
import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from app.celery_worker import connections, inproc
from app.celery_worker.beat import DatabaseScheduler
from app.celery_worker.celery_app import create_celery
from app.celery_worker.housekeeping import Housekeeper
from app.config import load_settings
from app.tasks.agenda import Agenda
from tests.unit.celery_worker.stand_ins import NOW, Yard


@pytest.fixture
def yard() -> Iterator[Yard]:
    inproc.register()
    name = f"t-{secrets.token_hex(4)}"
    environ = {"TASKYARD_CELERY__NAMESPACE": name, "TASKYARD_CELERY__QUEUE_PREFIX": f"{name}."}
    yard = Yard(settings=load_settings(environ=environ))
    yield yard
    for queue in yard.site.topology.queues("default"):
        inproc.broker().delete_queue(queue.name)


def put_letters(yard: Yard, count: int) -> str:
    connection: Any = connections.open_connection("inproc://", timeout_seconds=1)
    connections.declare(connection, yard.site.topology, ["default"])
    queue = yard.site.topology.dead_letter_queue_name("default")
    channel = connection.channel()
    for number in range(count):
        message = channel.prepare_message(b"body", headers={"id": str(number)})
        channel.basic_publish(message, exchange="", routing_key=queue)
    connection.close()
    return queue


def on_time(yard: Yard) -> Housekeeper:
    """Return a housekeeper to whom a minute has passed whenever it looks at its clock."""
    return Housekeeper(yard.site, clock=itertools.count(step=60.0).__next__)


def left(queue: str) -> int:
    found = inproc.broker().queues[queue]
    return len(found.ready) + found.unacknowledged


def test_a_round_sweeps_and_archives_every_letter(yard: Yard) -> None:
    queue = put_letters(yard, 3)
    housekeeper = on_time(yard)
    housekeeper.run()
    assert yard.sweeping.sweeps == 1
    assert [facts["run_id"] for facts in yard.sweeping.kept] == ["0", "1", "2"]
    assert left(queue) == 0
    housekeeper.close()
    assert yard.services[0].closed


def test_a_letter_that_is_not_archived_stays_and_comes_first_in_the_next_round(yard: Yard) -> None:
    queue = put_letters(yard, 2)
    yard.sweeping.refuses = 1
    housekeeper = on_time(yard)
    housekeeper.run()
    assert yard.sweeping.kept == []
    assert left(queue) == 2
    housekeeper.run()
    assert [facts["run_id"] for facts in yard.sweeping.kept] == ["0", "1"]
    assert not any(facts["redelivered"] for facts in yard.sweeping.kept)
    housekeeper.close()


def test_a_letter_in_hand_goes_back_when_the_process_ends(yard: Yard) -> None:
    queue = put_letters(yard, 1)
    yard.sweeping.refuses = 1
    first = Housekeeper(yard.site)
    first.run()
    first.close()
    second = Housekeeper(yard.site)
    second.run()
    assert [facts["run_id"] for facts in yard.sweeping.kept] == ["0"]
    assert left(queue) == 0
    second.close()


def test_a_failure_is_no_end(yard: Yard) -> None:
    queue = put_letters(yard, 1)
    yard.sweeping.fails = [ValueError("a bug"), OSError("the broker is away")]
    housekeeper = on_time(yard)
    housekeeper.run()
    housekeeper.run()
    assert left(queue) == 1
    housekeeper.run()
    assert left(queue) == 0
    housekeeper.close()


def test_the_rows_are_looked_at_when_it_is_time_and_the_letters_each_round(yard: Yard) -> None:
    now = [100.0]
    housekeeper = Housekeeper(yard.site, clock=lambda: now[0])
    # Nothing to do: three intervals until the next look.
    yard.sweeping.agenda = Agenda(now=NOW, term=1)
    interval = yard.settings.celery.sweep_interval_seconds
    for passed in range(4):
        queue = put_letters(yard, 1)
        assert 0 < housekeeper.run() <= interval
        assert left(queue) == 0
        assert yard.sweeping.looks == yard.sweeping.sweeps == (1 if passed < 3 else 2)
        now[0] += interval
    assert len(yard.sweeping.kept) == 4
    assert (yard.firing.begun, yard.firing.rounds) == (1, 0)
    housekeeper.close()


def test_a_look_comes_when_the_next_schedule_fires(yard: Yard) -> None:
    now = [100.0]
    housekeeper = Housekeeper(yard.site, clock=lambda: now[0])
    interval = yard.settings.celery.sweep_interval_seconds
    soon = NOW + timedelta(seconds=interval / 2)
    yard.sweeping.agenda = Agenda(now=NOW, term=1, fires_at=soon)
    assert housekeeper.run() == pytest.approx(interval / 2)
    now[0] += interval / 2 + 0.01
    yard.sweeping.agenda = Agenda(now=soon, term=1, fires_at=soon)
    housekeeper.run()
    assert yard.firing.rounds == 1
    housekeeper.close()


def test_a_failing_round_is_tried_again_after_the_interval(yard: Yard) -> None:
    now = [100.0]
    housekeeper = Housekeeper(yard.site, clock=lambda: now[0])
    interval = yard.settings.celery.sweep_interval_seconds
    yard.sweeping.agenda = Agenda(now=NOW, term=1)
    yard.sweeping.fails = [OSError("the database is away")]
    assert housekeeper.run() == pytest.approx(interval)
    now[0] += interval
    housekeeper.run()
    assert yard.sweeping.looks == 2
    housekeeper.close()


def test_schedules_begin_once_and_fire_each_round(yard: Yard) -> None:
    housekeeper = on_time(yard)
    for _ in range(3):
        housekeeper.run()
    assert (yard.firing.begun, yard.firing.rounds) == (1, 3)
    housekeeper.close()
    assert len(yard.services) == 1


def test_schedules_that_cannot_fire_hold_up_no_sweep(yard: Yard) -> None:
    yard.firing.begin_fails = [OSError("the database is away")]
    yard.firing.fails = [ValueError("a bug")]
    housekeeper = on_time(yard)
    for _ in range(3):
        housekeeper.run()
    assert yard.sweeping.sweeps == 3
    assert (yard.firing.begun, yard.firing.rounds) == (2, 2)
    housekeeper.close()


def test_a_stop_in_the_middle_of_a_round_leaves_the_round_alone(yard: Yard) -> None:
    housekeeper = on_time(yard)
    sweep = yard.sweeping.sweep

    async def stop_inside(found: Agenda) -> None:
        housekeeper.close()
        await sweep(found)

    yard.sweeping.sweep = stop_inside  # type: ignore[method-assign] # the handler of a signal
    housekeeper.run()
    assert yard.sweeping.sweeps == 1
    assert not yard.services[0].closed
    housekeeper.close()
    assert yard.services[0].closed


def test_beat_keeps_house_and_sleeps_no_longer_than_the_interval(yard: Yard) -> None:
    app = create_celery(
        yard.settings,
        ["test.task"],
        services_factory=yard.make_services,
        execution_factory=lambda _services, _worker: yard.execution,
        sweeping_factory=lambda _services: yard.sweeping,
        firing_factory=lambda _services: yard.firing,
    )
    scheduler = DatabaseScheduler(app=app)
    assert scheduler.schedule == {}
    interval = yard.settings.celery.sweep_interval_seconds
    assert 0 <= scheduler.tick() <= interval
    assert 0 <= scheduler.tick() <= interval
    assert yard.sweeping.sweeps == yard.firing.rounds == 1
    scheduler.close()
    # The banner makes one more; nothing may be opened for it.
    DatabaseScheduler(app=app, lazy=True).close()
    assert len(yard.services) == 1
