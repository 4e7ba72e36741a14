import time
from typing import Any

import pytest

from app.celery_worker.inproc_broker import ArgumentsDiffer, InprocBroker


def raw(name: str = "m", **headers: Any) -> dict[str, Any]:
    info = {"exchange": "x", "routing_key": "key"}
    return {"body": name, "headers": headers, "properties": {"delivery_info": info}}


@pytest.fixture
def broker() -> InprocBroker:
    broker = InprocBroker()
    broker.declare_exchange("x", "direct", {})
    broker.declare_queue("q", {})
    broker.bind("q", "x", "key")
    return broker


def bodies(broker: InprocBroker, *names: str) -> list[str]:
    found = []
    while taken := broker.take(names):
        found.append(taken[1]["body"])
    return found


def test_messages_leave_in_the_order_in_which_they_came(broker: InprocBroker) -> None:
    assert all(broker.publish("x", "key", raw(str(number))) for number in range(3))
    assert bodies(broker, "q") == ["0", "1", "2"]


def test_the_first_named_queue_gives_first(broker: InprocBroker) -> None:
    broker.declare_queue("other", {})
    broker.publish("", "q", raw("a"))
    broker.publish("", "other", raw("b"))
    assert bodies(broker, "other", "missing", "q") == ["b", "a"]


def test_a_message_without_a_queue_is_told(broker: InprocBroker) -> None:
    assert not broker.publish("x", "nowhere", raw())
    assert not broker.publish("", "nowhere", raw())
    broker.unbind("q", "x", "key")
    assert not broker.publish("x", "key", raw())


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [("a.b", "a.b", True), ("a.*", "a.b", True), ("a.*", "a", False), ("a.#", "a", True),
     ("a.#", "a.b.c", True), ("#.c", "a.b.c", True), ("*.c", "a.b.c", False), ("#", "", True)],
)  # fmt: skip
def test_topics(broker: InprocBroker, pattern: str, key: str, matches: bool) -> None:
    broker.declare_exchange("topics", "topic", {})
    broker.bind("q", "topics", pattern)
    assert broker.publish("topics", key, raw()) is matches


def test_a_fanout_copies_to_every_queue_once(broker: InprocBroker) -> None:
    broker.declare_exchange("all", "fanout", {})
    broker.declare_queue("r", {})
    for queue, key in (("q", "1"), ("q", "2"), ("r", "3")):
        broker.bind(queue, "all", key)
    message = raw("copied", note="mine")
    assert broker.publish("all", "", message)
    (first, second) = (broker.take(["q"]), broker.take(["r"]))
    assert broker.take(["q", "r"]) is None
    assert first is not None
    assert second is not None
    assert first[1]["headers"] is not second[1]["headers"]


def test_other_arguments_are_refused(broker: InprocBroker) -> None:
    broker.declare_queue("q", {})
    with pytest.raises(ArgumentsDiffer, match="'q'"):
        broker.declare_queue("q", {"x-delivery-limit": 1})
    with pytest.raises(ArgumentsDiffer, match="'x'"):
        broker.declare_exchange("x", "topic", {})


def test_a_dead_letter_waits_until_there_is_a_queue_for_it(broker: InprocBroker) -> None:
    broker.declare_exchange("dlx", "direct", {})
    broker.declare_queue("w", {"x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "d"})
    broker.publish("", "w", raw("dead"))
    taken = broker.take(["w"])
    assert taken is not None
    broker.refuse(*taken)
    broker.declare_queue("d", {})
    assert bodies(broker, "d") == []
    broker.bind("d", "dlx", "d")
    assert bodies(broker, "d") == ["dead"]


def test_a_second_death_in_one_place_is_counted_not_listed(broker: InprocBroker) -> None:
    broker.declare_queue("w", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "w"})
    broker.publish("", "w", raw())
    for _ in range(3):
        taken = broker.take(["w"])
        assert taken is not None
        broker.refuse(*taken)
    taken = broker.take(["w"])
    assert taken is not None
    (death,) = taken[1]["headers"]["x-death"]
    assert (death["queue"], death["reason"], death["count"]) == ("w", "rejected", 3)


def test_without_a_dead_letter_exchange_a_rejected_message_ends(broker: InprocBroker) -> None:
    broker.publish("", "q", raw())
    taken = broker.take(["q"])
    assert taken is not None
    broker.refuse(*taken)
    assert broker.size("q") == 0


def test_what_is_given_back_comes_first_and_is_counted(broker: InprocBroker) -> None:
    broker.publish("", "q", raw("a"))
    broker.publish("", "q", raw("b"))
    taken = broker.take(["q"])
    assert taken is not None
    broker.give_back(*taken)
    again = broker.take(["q"])
    assert again is not None
    assert again[1]["body"] == "a"
    assert again[1]["headers"]["x-delivery-count"] == 1
    assert again[1]["properties"]["delivery_info"]["redelivered"]


def test_what_is_given_back_to_a_deleted_queue_is_gone(broker: InprocBroker) -> None:
    broker.publish("", "q", raw())
    taken = broker.take(["q"])
    assert taken is not None
    assert broker.delete_queue("q") == 0
    broker.declare_queue("q", {})
    broker.give_back(*taken)
    assert broker.size("q") == 0


def test_delays_count_are_purged_and_deleted_with_their_queue(broker: InprocBroker) -> None:
    broker.declare_queue("slow", {"x-message-ttl": 60_000})
    broker.publish("", "slow", raw())
    broker.publish("", "slow", raw())
    assert broker.size("slow") == 2
    assert broker.take(["slow"]) is None
    assert 0 < (broker.seconds_to_next_delay() or 0) <= 60
    assert broker.purge("slow") == 2
    assert broker.seconds_to_next_delay() is None
    broker.publish("", "slow", raw())
    broker.delete_queue("slow")
    assert broker.seconds_to_next_delay() is None
    broker.publish("", "q", raw())
    assert broker.purge("q") == 1


def test_a_delay_that_is_over_lets_its_message_out(broker: InprocBroker) -> None:
    arguments = {
        "x-message-ttl": 20,
        "x-dead-letter-exchange": "x",
        "x-dead-letter-routing-key": "key",
    }
    broker.declare_queue("slow", arguments)
    broker.publish("", "slow", raw("late"))
    assert bodies(broker, "q") == []
    time.sleep(0.03)
    assert bodies(broker, "q") == ["late"]


def test_a_deleted_exchange_leads_nowhere(broker: InprocBroker) -> None:
    broker.delete_exchange("x")
    assert not broker.publish("x", "key", raw())
