"""What a publisher may say about a message, the same on every broker."""

import asyncio
from typing import Any

import pytest

from app.celery_worker.connections import TopologyMismatch, declare_queue
from app.celery_worker.publisher import BlockingPublisher, ThreadPublisher
from app.celery_worker.topology import QueueSpec
from tests.contract.broker.conftest import Broker


def test_what_is_confirmed_is_on_its_queue(broker: Broker) -> None:
    wakeups = [broker.wakeup() for _ in range(20)]
    assert broker.publisher.send(wakeups) == {wakeup.run_id for wakeup in wakeups}
    queue = broker.topology.broker_queue("default", 5)
    received = [broker.get(queue).headers["id"] for _ in wakeups]
    assert received == [wakeup.run_id for wakeup in wakeups]
    assert broker.get(queue, seconds=0) is None


def test_a_message_is_a_wake_up_and_nothing_more(broker: Broker) -> None:
    wakeup = broker.wakeup(timeout_seconds=30.0, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    broker.publisher.send([wakeup])
    message = broker.get(broker.topology.broker_queue("default", 5))
    message.headers.pop("x-delivery-count", None)  # RabbitMQ counts from the first delivery on.
    hard, soft = message.headers.pop("timelimit")
    assert soft >= 30.0
    assert hard > soft
    assert message.headers == {
        "lang": "py",
        "task": "test.task",
        "id": wakeup.run_id,
        "root_id": wakeup.run_id,
        "ignore_result": True,
        "traceparent": wakeup.traceparent,
    }
    assert message.payload == [
        [],
        {},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]
    assert message.content_type == "application/json"
    assert message.properties["delivery_mode"] == 2


@pytest.mark.parametrize(
    ("priority", "suffix"), [(0, ".low"), (2, ".low"), (3, ""), (6, ""), (7, ".high"), (9, ".high")]
)
def test_a_priority_picks_one_of_the_three_queues(
    broker: Broker, priority: int, suffix: str
) -> None:
    wakeup = broker.wakeup(priority=priority)
    assert broker.publisher.send([wakeup])
    assert (
        broker.get(f"{broker.settings.queue_prefix}default{suffix}").headers["id"] == wakeup.run_id
    )


def test_an_unknown_class_is_declared_before_its_first_message(broker: Broker) -> None:
    wakeup = broker.wakeup(queue="slow")
    assert broker.publisher.send([wakeup]) == {wakeup.run_id}
    assert broker.get(broker.topology.broker_queue("slow", 5)).headers["id"] == wakeup.run_id
    assert broker.ready(broker.topology.dead_letter_queue_name("slow")) == 0


def test_a_queue_deleted_behind_our_back_is_declared_again(broker: Broker) -> None:
    broker.publisher.send([broker.wakeup()])
    queue = broker.topology.broker_queue("default", 5)
    with broker.connection.channel() as channel:
        channel.queue_delete(queue)
    wakeup = broker.wakeup()
    assert broker.publisher.send([wakeup]) == {wakeup.run_id}
    assert broker.get(queue).headers["id"] == wakeup.run_id


def test_what_the_broker_returns_is_not_confirmed(broker: Broker) -> None:
    with broker.connection.channel() as channel:
        returned: list[Any] = []
        confirmed: list[int] = []
        channel.confirm_select()
        channel.events["basic_return"].add(lambda *facts: returned.append(facts))
        channel.events["basic_ack"].add(lambda tag, multiple: confirmed.append(tag))
        # The fact that the publisher is built on: a returned message is confirmed as well.
        channel.basic_publish(
            channel.prepare_message(b"{}", properties={"correlation_id": "lost"}),
            exchange=broker.topology.exchange,
            routing_key="nowhere",
            mandatory=True,
        )
        while not confirmed:
            broker.connection.drain_events(timeout=5)
    assert len(returned) == 1
    assert returned[0][3].properties["correlation_id"] == "lost"


def test_a_class_whose_queue_differs_is_not_confirmed_and_stops_no_other(broker: Broker) -> None:
    name = broker.topology.broker_queue("slow", 5)
    with broker.connection.channel() as channel:
        channel.queue_declare(
            name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
        )
    misfit, good = broker.wakeup(queue="slow"), broker.wakeup()
    assert broker.publisher.send([misfit, good]) == {good.run_id}


def test_a_queue_that_differs_is_named_with_the_cure(broker: Broker) -> None:
    name = broker.topology.broker_queue("slow", 5)
    with broker.connection.channel() as channel:
        channel.queue_declare(
            name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
        )
    with pytest.raises(TopologyMismatch) as raised, broker.connection.channel() as channel:
        declare_queue(
            channel,
            QueueSpec(
                name,
                broker.topology.exchange,
                name,
                {"x-queue-type": "quorum", "x-delivery-limit": 3},
            ),
        )
    assert name in raised.value.detail
    assert raised.value.hint is not None
    assert f"delete_queue {name}" in raised.value.hint


def test_the_backlog_counts_a_class_and_leaves_out_what_is_not_there(broker: Broker) -> None:
    broker.publisher.send(
        [broker.wakeup(), broker.wakeup(priority=9), broker.wakeup(priority=0, delay_seconds=30)]
    )
    assert broker.publisher.backlog(["default", "slow"]) == {"default": 2}
    # The channel that the question for `slow` has closed was none of the publisher's own.
    assert broker.publisher.send([broker.wakeup()])


def test_a_dead_letter_goes_to_the_classes_dead_letter_queue(broker: Broker) -> None:
    wakeup = broker.wakeup(priority=9)
    facts = {"x-error-type": "ValueError", "x-error-message": "m" * 10_000}
    assert broker.publisher.send_dead_letter(wakeup, facts)
    letter = broker.get(broker.topology.dead_letter_queue_name("default"))
    assert letter.headers["id"] == wakeup.run_id
    assert letter.headers["x-error-type"] == "ValueError"
    assert 1000 < len(letter.headers["x-error-message"]) < 10_000


@pytest.mark.parametrize("kind", [BlockingPublisher, ThreadPublisher])
async def test_both_transports_keep_the_port(
    broker: Broker, kind: type[BlockingPublisher | ThreadPublisher]
) -> None:
    transport = kind(broker.settings)
    try:
        await transport.ping()
        assert await transport.send([]) == frozenset()
        wakeups = [broker.wakeup() for _ in range(30)]
        answers = await asyncio.gather(*(transport.send([wakeup]) for wakeup in wakeups))
        assert [set(answer) for answer in answers] == [{wakeup.run_id} for wakeup in wakeups]
        assert await transport.backlog(["default"]) == {"default": 30}
        assert await transport.send_dead_letter(broker.wakeup(), {}) is True
    finally:
        await transport.close()
