"""A plain Celery app, which knows the broker, the exchange and a queue, still starts tasks."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from kombu import Exchange, Queue

from app.common.ids import new_id
from app.tasks.errors import RunNotFound
from app.tasks.run_lists import RunFilters
from tests.contract.broker.test_worker import yard
from tests.contract.broker.yards import Yard, await_it
from tests.harness import Somebody

__all__ = ["yard"]


@pytest.fixture
def producer(yard: Yard) -> Iterator[Celery]:
    """A producer as the guide shows it; a prefix makes the names of a test its own."""
    # What a producer sends before anybody has declared the exchange is lost, as with any exchange.
    yard.await_status(yard.submit("probe.echo_text", {"text": "up"}), "SUCCEEDED")
    topology = yard.topology
    default = topology.broker_queue("default", 5)
    exchange = Exchange(topology.exchange, no_declare=True)
    app = Celery(broker=yard.settings.celery.broker_url.get_secret_value(), set_as_current=False)
    app.conf.task_queues = [Queue(default, exchange, routing_key=default, no_declare=True)]
    app.conf.task_default_queue = default
    yield app
    app.close()


def letters_about(yard: Yard, run_id: str) -> list[Any]:
    return [letter for letter in yard.dead_letters() if str(letter.run_id) == run_id]


def known(yard: Yard, run_id: str) -> Any:
    """The run, once it has a row and has ended."""

    def ended() -> Any:
        try:
            row = yard.row(run_id)
        except RunNotFound:
            return None
        return row if row.finished_at else None

    return await_it(ended)


def test_arguments_by_name_make_a_run(yard: Yard, producer: Celery) -> None:
    sent = producer.send_task("probe.echo_text", kwargs={"text": "hello \u00fc"})
    run = known(yard, sent.id)
    assert (run.status, run.result, run.params) == (
        "SUCCEEDED",
        "hello \u00fc",
        {"text": "hello \u00fc"},
    )
    assert (run.created_by, run.tenant, run.attempt) == ("celery", None, 1)
    assert "celery.origin" in run.labels


def test_arguments_by_place_and_an_id_of_ones_own(yard: Yard, producer: Celery) -> None:
    run_id = str(uuid.uuid1())
    producer.send_task("probe.echo_text", args=["placed"], task_id=run_id)
    run = known(yard, run_id)
    assert (run.params, run.result) == ({"text": "placed"}, "placed")


def test_a_task_without_arguments_is_no_unknown_wake_up(yard: Yard, producer: Celery) -> None:
    run = known(yard, producer.send_task("probe.fail_always").id)
    assert (run.status, run.error["type"], run.attempt) == ("FAILED", "Fatal", 1)


def test_the_same_message_twice_is_one_run(yard: Yard, producer: Celery) -> None:
    run_id = new_id()
    for text in ("first", "second"):
        producer.send_task("probe.echo_text", kwargs={"text": text}, task_id=run_id)
    run = known(yard, run_id)
    last = known(yard, producer.send_task("probe.echo_text", kwargs={"text": "x"}).id)
    assert last.status == "SUCCEEDED"
    assert yard.row(run_id)._asdict() == run._asdict()
    assert run.attempt == 1


def test_an_existing_run_keeps_its_own_arguments(yard: Yard, producer: Celery) -> None:
    run_id = yard.submit("probe.echo_text", {"text": "mine"}, delay_seconds=1.0)
    producer.send_task("probe.echo_text", kwargs={"text": "forged"}, task_id=run_id)
    run = known(yard, run_id)
    assert (run.result, run.created_by) == ("mine", "somebody")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"kwargs": {"text": 5}}, "params.text"),
        ({"kwargs": {"text": "a", "other": 1}}, "params.other"),
        ({"kwargs": {}}, "params.text"),
        ({"args": ["a", "b"]}, "at most 1 positional"),
        ({"args": ["a"], "kwargs": {"text": "b"}}, "twice: text"),
    ],
)
def test_wrong_arguments_are_a_failed_run_with_a_dead_letter(
    yard: Yard, producer: Celery, arguments: dict[str, Any], told: str
) -> None:
    sent = producer.send_task("probe.echo_text", **arguments)
    run = known(yard, sent.id)
    assert (run.status, run.error["type"], run.attempt) == ("FAILED", "InvalidParams", 0)
    assert told in run.error["message"]
    (letter,) = letters_about(yard, sent.id)
    assert told in letter.error_message
    assert str(run.dead_letter_id) == str(letter.id)


def test_a_countdown_is_kept(yard: Yard, producer: Celery) -> None:
    sent = producer.send_task("probe.echo_text", kwargs={"text": "later"}, countdown=1.5)
    run = known(yard, sent.id)
    assert run.status == "SUCCEEDED"
    assert run.started_at >= run.scheduled_for
    assert run.scheduled_for - run.created_at > timedelta(seconds=0.5)


def test_a_call_that_came_too_late_expires(yard: Yard, producer: Celery) -> None:
    past = datetime.now(UTC) - timedelta(seconds=5)
    sent = producer.send_task("probe.echo_text", kwargs={"text": "late"}, expires=past)
    run = known(yard, sent.id)
    assert (run.status, run.attempt) == ("EXPIRED", 0)


def test_an_id_that_is_no_uuid_is_kept_as_a_label(yard: Yard, producer: Celery) -> None:
    name = f"night-{new_id()}"
    for _ in range(2):
        producer.send_task("probe.echo_text", kwargs={"text": "named"}, task_id=name)

    last = known(yard, producer.send_task("probe.echo_text", kwargs={"text": "x"}).id)
    assert last.status == "SUCCEEDED"
    filters = RunFilters(labels={"celery.id": name})
    page = yard.runner.run(yard.services.runs.list(filters, 10, None, Somebody()))
    (run,) = page.items
    assert run.params == {"text": "named"}


def test_what_would_follow_is_refused_and_kept(yard: Yard, producer: Celery) -> None:
    signature = producer.signature("probe.echo_text", kwargs={"text": "a"})
    signature.link(producer.signature("probe.echo_text", kwargs={"text": "b"}))
    sent = signature.apply_async()

    def kept() -> Any:
        return letters_about(yard, sent.id) or None

    (letter,) = await_it(kept)
    assert (letter.origin, letter.error_type) == ("broker", "rejected")
    assert "callbacks" in str(letter.message)
