"""A worker that the broker has forgotten, without a word, finds its way back."""

from collections.abc import Iterator

import pytest

from app.celery_worker.connections import declare_queue
from tests.contract.broker.yards import Yard, real_yard
from tests.services import Services


@pytest.fixture(scope="module")
def yard(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("yard")
    with real_yard(folder, services, TASKYARD_CELERY__OVERDUE_AFTER_SECONDS="2") as yard:
        yield yard


def test_a_worker_that_lost_its_consumer_unseen_connects_anew(yard: Yard) -> None:
    # The broker's channel has counted a message; what it counts again, it drops.
    yard.await_status(yard.submit("probe.echo_text", {"text": "heard"}), "SUCCEEDED")
    with yard.channel() as channel:
        name = yard.topology.broker_queue("default", 5)
        (spec,) = [queue for queue in yard.topology.queues("default") if queue.name == name]
        channel.queue_delete(name)
        declare_queue(channel, spec)
    run_id = yard.submit("probe.echo_text", {"text": "heard again"})
    assert yard.await_status(run_id, "SUCCEEDED").result == "heard again"
