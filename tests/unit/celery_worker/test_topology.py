import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.celery_worker.delays import LADDER_SECONDS
from app.celery_worker.topology import Topology, all_queues, without_death_history
from app.config.settings import CelerySettings

TOPOLOGY = Topology("yard", "p.", 20)


def test_it_is_read_from_the_settings() -> None:
    settings = CelerySettings(namespace="yard", queue_prefix="p.", delivery_limit=7)
    assert Topology.of(settings) == Topology("yard", "p.", 7)


def test_the_dead_letter_queue_is_declared_first() -> None:
    names = [queue.name for queue in TOPOLOGY.queues("default")]
    assert names == ["p.default.dlq", "p.default.high", "p.default", "p.default.low"]
    assert [exchange.name for exchange in TOPOLOGY.exchanges()] == [
        "yard.dlx",
        "yard",
        "yard.events",
    ]


def test_several_classes_come_one_after_the_other() -> None:
    names = [queue.name for queue in all_queues(TOPOLOGY, ["a", "b"])]
    assert names.index("p.a.low") < names.index("p.b.dlq")


@pytest.mark.parametrize("priority", range(10))
def test_a_queue_tells_its_class_and_a_priority_that_leads_back(priority: int) -> None:
    queue = TOPOLOGY.broker_queue("reports", priority)
    name, again = TOPOLOGY.read_queue(queue)
    assert name == "reports"
    assert TOPOLOGY.broker_queue(name, again) == queue


def test_every_dead_lettering_queue_is_at_least_once() -> None:
    queues = [*TOPOLOGY.queues("default"), TOPOLOGY.delay_queue("p.default", 5, 0)]
    for queue in queues:
        assert queue.arguments["x-queue-type"] == "quorum"
        if "x-dead-letter-exchange" in queue.arguments:
            assert queue.arguments["x-dead-letter-strategy"] == "at-least-once"
            assert queue.arguments["x-overflow"] == "reject-publish"


delays = st.sampled_from(LADDER_SECONDS)
moments = st.floats(min_value=1e9, max_value=4e9)


@given(delays, moments, st.floats(min_value=0, max_value=20_000))
def test_a_delay_queue_outlives_every_message_that_is_put_into_it(
    delay: float, declared: float, later: float
) -> None:
    """RabbitMQ deletes it `x-expires` after its declaration, with what is in it."""
    queue = TOPOLOGY.delay_queue("p.default", delay, declared)
    published = declared + later
    if TOPOLOGY.delay_queue("p.default", delay, published).name != queue.name:
        return
    same_window = later <= max(600, delay)
    dies = declared + float(queue.arguments["x-expires"]) / 1000
    if same_window:
        assert published + delay < dies
    else:
        # The name's next turn: by then the old queue is gone, so it is declared anew.
        assert dies < published


def test_a_delay_leads_back_to_its_own_queue() -> None:
    queue = TOPOLOGY.delay_queue("p.default.high", 1.4, 0)
    assert queue.name == "p.default.high.delay.1500.0"
    assert queue.arguments["x-message-ttl"] == 1500
    assert queue.arguments["x-dead-letter-exchange"] == "yard"
    assert queue.arguments["x-dead-letter-routing-key"] == "p.default.high"


def test_the_death_history_is_taken_off_for_another_round() -> None:
    headers = {
        "id": "1",
        "x-death": [{}],
        "x-first-death-queue": "q",
        "x-last-death-reason": "r",
        "x-delivery-count": 3,
        "x-error-type": "ValueError",
    }
    assert without_death_history(headers) == {"id": "1", "x-error-type": "ValueError"}
