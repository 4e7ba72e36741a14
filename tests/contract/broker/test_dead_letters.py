"""What is rejected or comes back too often reaches the dead-letter queue with its history."""

from typing import Any

from tests.contract.broker.conftest import Broker


def take(broker: Broker, channel: Any, queue: str) -> Any:
    while (raw := channel.basic_get(queue)) is None:
        pass
    return channel.message_to_python(raw)


def test_a_rejected_message_tells_where_it_died(broker: Broker) -> None:
    wakeup = broker.wakeup(priority=9)
    broker.publisher.send([wakeup])
    queue = broker.topology.broker_queue("default", 9)
    with broker.connection.channel() as channel:
        take(broker, channel, queue).reject(requeue=False)
    letter = broker.get(broker.topology.dead_letter_queue_name("default"))
    assert letter.headers["id"] == wakeup.run_id
    (death,) = letter.headers["x-death"]
    assert death["queue"] == queue
    assert death["reason"] == "rejected"
    assert death["count"] == 1
    assert death["routing-keys"] == [queue]
    assert letter.headers["x-first-death-queue"] == queue


def test_a_message_that_comes_back_too_often_dies_of_the_limit(broker: Broker) -> None:
    wakeup = broker.wakeup()
    broker.publisher.send([wakeup])
    queue = broker.topology.broker_queue("default", 5)
    deliveries = 0
    dead = broker.topology.dead_letter_queue_name("default")
    letter = None
    while letter is None:
        with broker.connection.channel() as channel:
            raw = channel.basic_get(queue)
            if raw is not None:
                deliveries += 1
                channel.message_to_python(raw).reject(requeue=True)
        letter = broker.get(dead, seconds=0)
    assert deliveries == broker.settings.delivery_limit + 1
    assert letter.headers["id"] == wakeup.run_id
    assert letter.headers["x-death"][0]["reason"] == "delivery_limit"


def test_a_message_comes_back_when_its_channel_closes(broker: Broker) -> None:
    wakeup = broker.wakeup()
    broker.publisher.send([wakeup])
    queue = broker.topology.broker_queue("default", 5)
    channel = broker.connection.channel()
    take(broker, channel, queue)
    channel.close()
    again = broker.get(queue)
    assert again.headers["id"] == wakeup.run_id
    assert again.delivery_info["redelivered"]


def test_a_delayed_message_keeps_its_way_in_its_history(broker: Broker) -> None:
    broker.publisher.send([broker.wakeup(delay_seconds=0.1)])
    queue = broker.topology.broker_queue("default", 5)
    with broker.connection.channel() as channel:
        take(broker, channel, queue).reject(requeue=False)
    letter = broker.get(broker.topology.dead_letter_queue_name("default"))
    assert [(death["reason"], death["count"]) for death in letter.headers["x-death"]] == [
        ("rejected", 1),
        ("expired", 1),
    ]
    assert letter.headers["x-first-death-reason"] == "expired"
