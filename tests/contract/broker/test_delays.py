"""Delays wait on the broker: never too early, beside each other, and as often as it takes."""

import time
from dataclasses import replace

from app.celery_worker.delays import LADDER_SECONDS
from tests.contract.broker.conftest import Broker


def test_a_delayed_message_does_not_come_before_its_time(broker: Broker) -> None:
    wakeup = broker.wakeup(delay_seconds=1.0)
    begun = time.monotonic()
    assert broker.publisher.send([wakeup]) == {wakeup.run_id}
    queue = broker.topology.broker_queue("default", 5)
    assert broker.ready(queue) == 0
    assert broker.get(queue).headers["id"] == wakeup.run_id
    assert time.monotonic() - begun >= 1.0


def test_a_short_delay_does_not_wait_behind_a_long_one(broker: Broker) -> None:
    delays = [2.0, 0.2, 1.0, 0.5]
    wakeups = [broker.wakeup(delay_seconds=delay) for delay in delays]
    assert len(broker.publisher.send(wakeups)) == 4
    queue = broker.topology.broker_queue("default", 5)
    received = [broker.get(queue).headers["id"] for _ in wakeups]
    assert received == [wakeups[number].run_id for number in (1, 3, 2, 0)]


def test_one_run_goes_round_six_times(broker: Broker) -> None:
    wakeup = broker.wakeup(delay_seconds=0.1, priority=9)
    queue = broker.topology.broker_queue("default", 9)
    for _ in range(6):
        assert broker.publisher.send([replace(wakeup)]) == {wakeup.run_id}
        message = broker.get(queue)
        assert message is not None
        assert message.headers["id"] == wakeup.run_id
    assert broker.get(broker.topology.dead_letter_queue_name("default"), seconds=0) is None


def test_a_delay_queue_that_is_gone_is_declared_again(broker: Broker) -> None:
    first, second = broker.wakeup(delay_seconds=0.1), broker.wakeup(delay_seconds=0.1)
    broker.publisher.send([first])
    queue = broker.topology.broker_queue("default", 5)
    assert broker.get(queue).headers["id"] == first.run_id
    with broker.connection.channel() as channel:
        for turn in range(4):
            channel.queue_delete(f"{queue}.delay.100.{turn}")
    assert broker.publisher.send([second]) == {second.run_id}
    assert broker.get(queue).headers["id"] == second.run_id


def test_a_message_is_not_late_by_the_time_that_it_waited_to_be_sent(broker: Broker) -> None:
    wakeup = broker.wakeup(delay_seconds=600.0)
    assert 599 < wakeup.seconds_left <= 600
    object.__setattr__(wakeup, "made_at", time.monotonic() - 599.5)
    assert 0 < wakeup.seconds_left <= 0.5
    # Another message with the same delay has all of it before it.
    assert replace(wakeup).seconds_left > 599
    broker.rungs |= {round(rung * 1000) for rung in LADDER_SECONDS if rung <= 0.5}
    assert broker.publisher.send([wakeup]) == {wakeup.run_id}
    message = broker.get(broker.topology.broker_queue("default", 5))
    assert message is not None
    assert message.headers["id"] == wakeup.run_id
