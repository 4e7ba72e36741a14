import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from amqp.exceptions import NotFound
from kombu import Connection, Consumer, Queue

from app.celery_worker import inproc


@pytest.fixture
def connection() -> Iterator[Any]:
    inproc.register()
    with Connection("inproc://") as opened:
        opened.connect()
        yield opened
    for name in list(inproc.broker().queues):
        inproc.broker().delete_queue(name)


def publish(channel: Any, queue: str, body: str, **options: Any) -> None:
    channel.queue_declare(queue)
    channel.basic_publish(channel.prepare_message(body), exchange="", routing_key=queue, **options)


def test_a_waiting_consumer_wakes_for_a_message_of_another_thread(connection: Any) -> None:
    channel = connection.channel()
    channel.queue_declare("q")
    got: list[Any] = []
    consumer = Consumer(
        channel, [Queue("q", no_declare=True)], on_message=got.append, auto_declare=False
    )
    consumer.consume()

    def later() -> None:
        time.sleep(0.05)
        with Connection("inproc://") as other:
            publish(other.channel(), "q", "hello")

    thread = threading.Thread(target=later)
    thread.start()
    connection.drain_events(timeout=10)
    thread.join()
    assert got[0].body == b"hello"


def test_a_drain_ends_when_nothing_comes_or_something_interrupts(connection: Any) -> None:
    connection.channel()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.01)
    timer = threading.Timer(0.05, inproc.broker().interrupt)
    timer.start()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=60)
    timer.join()


def test_the_prefetch_bounds_what_is_under_way(connection: Any) -> None:
    channel = connection.channel()
    for number in range(3):
        publish(channel, "q", str(number))
    channel.basic_qos(0, 2, False)
    got: list[Any] = []
    consumer = Consumer(
        channel, [Queue("q", no_declare=True)], on_message=got.append, auto_declare=False
    )
    consumer.consume()
    connection.drain_events(timeout=1)
    connection.drain_events(timeout=1)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.01)
    got[0].ack()
    connection.drain_events(timeout=1)
    assert [message.body for message in got] == [b"0", b"1", b"2"]


def test_urgent_queues_come_first_and_none_starves(connection: Any) -> None:
    channel = connection.channel()
    for number in range(8):
        publish(channel, "high", f"high {number}")
    publish(channel, "low", "low")
    got: list[str] = []

    def take(message: Any) -> None:
        got.append(message.body.decode())
        message.ack()

    queues = [
        Queue(name, no_declare=True, consumer_arguments={"x-priority": priority})
        for name, priority in (("low", 1), ("high", 9))
    ]
    Consumer(channel, queues, on_message=take, auto_declare=False).consume()
    for _ in range(9):
        connection.drain_events(timeout=1)
    assert got.index("low") == 4
    assert [body for body in got if body != "low"] == [f"high {number}" for number in range(8)]


def test_what_is_not_settled_comes_back_when_the_connection_closes(connection: Any) -> None:
    with Connection("inproc://") as other:
        channel: Any = other.channel()
        publish(channel, "q", "a")
        publish(channel, "q", "b")
        assert channel.basic_get("q").body == b"a"
        assert channel.basic_get("q").body == b"b"
        assert channel.basic_get("q") is None
    channel = connection.channel()
    assert [channel.basic_get("q", no_ack=True).body for _ in range(2)] == [b"a", b"b"]


def test_a_settled_message_is_settled_once(connection: Any) -> None:
    channel = connection.channel()
    publish(channel, "q", "a")
    message = channel.basic_get("q")
    message.ack()
    channel.basic_ack(message.delivery_tag)
    channel.basic_reject(message.delivery_tag, requeue=True)
    assert inproc.broker().queues["q"].unacknowledged == 0


def test_what_is_not_there_is_told_as_rabbitmq_tells_it(connection: Any) -> None:
    channel = connection.channel()
    with pytest.raises(NotFound):
        channel.queue_declare("missing", passive=True)
    with pytest.raises(NotFound):
        channel.exchange_declare("missing", passive=True)
    with pytest.raises(NotFound):
        channel.basic_publish(channel.prepare_message("x"), exchange="missing", routing_key="q")
    channel.exchange_declare("there")
    channel.exchange_declare("there", passive=True)
    channel.queue_declare("q")
    channel.queue_bind("q", "there", "key")
    channel.queue_unbind("q", "there", "key")
    channel.exchange_delete("there")


def test_kombus_own_questions_work(connection: Any) -> None:
    channel = connection.channel()
    publish(channel, "q", "a")
    declared: Any = Queue("q", channel=channel).queue_declare(passive=True)
    assert declared.message_count == 1
    assert channel.queue_purge("q") == 1
    assert connection.transport.driver_version()


def test_a_process_without_its_own_worker_may_not_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inproc, "_allowed", False)
    inproc.check_allowed("amqp://there")
    with pytest.raises(inproc.InprocOutsideOneProcess) as raised:
        inproc.check_allowed("inproc://")
    assert "taskyard dev" in (raised.value.hint or "")
