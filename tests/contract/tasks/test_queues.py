"""Levels and pauses of queues, on both application databases."""

from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from app import register_task
from app.common.errors import Forbidden
from app.tasks.audit import audit_of
from app.tasks.errors import QueueNotFound
from app.tasks.queues import QueueState, pauses_of
from app.tasks.sweeper import Sweeper
from tests.contract.tasks.test_limits import then
from tests.harness import Installation, Somebody

Install = Callable[..., Installation]


@register_task("test.queued", max_attempts=1, max_concurrency=1)
async def queued(fails: bool = False) -> None:
    """Succeed or fail."""
    if fails:
        raise ValueError


def state(yard: Installation, name: str = "default") -> QueueState:
    return yard.run(yard.services.queues.get(name))


def pause(yard: Installation, name: str = "default", **more: str) -> QueueState:
    return yard.run(yard.services.queues.pause(name, Somebody("ada"), **more))


def test_levels_are_counted_by_what_keeps_a_run(install: Install) -> None:
    yard = install(queued)
    yard.transport.backlogs["default"] = 2
    yard.deliver(yard.submit("test.queued", {"fails": True}).task_id)
    running, held, due = (yard.submit("test.queued").task_id for _ in range(3))
    yard.submit("test.queued", options={"delay_seconds": 60})
    values = {"worker": "other:1", "actor": "worker", "lease_seconds": 60.0, "run_id": running}
    yard.run(yard.services.limiter.claim(yard.row(running), values))
    yard.deliver(held)
    yard.sql(
        "UPDATE task_runs SET created_at = :then WHERE held_until IS NULL AND status = 'PENDING'",
        then=then(yard),
    )
    level = state(yard)
    assert (level.ready, level.consumers) == (2, 1)
    assert (level.unacknowledged, level.delayed, level.dead) == (1, 2, 1)
    assert level.oldest_age_seconds is not None
    assert level.oldest_age_seconds > 1_000_000
    assert yard.row(due).status == "PENDING"
    other = state(yard, "slow")
    assert (other.unacknowledged, other.delayed, other.dead) == (0, 0, 0)
    assert other.oldest_age_seconds is None


def test_without_a_broker_the_rows_are_still_counted(install: Install) -> None:
    yard = install(queued)
    yard.submit("test.queued", options={"delay_seconds": 60})
    yard.transport.confirms = False
    level = state(yard)
    assert (level.ready, level.consumers, level.delayed) == (None, None, 1)


def test_a_pause_is_kept_told_and_audited_once(install: Install) -> None:
    yard = install(queued)
    before = len(yard.run(audit_of(yard.services.databases, "queue", "default")))
    pause(yard, reason="first")
    paused = pause(yard, reason="second")
    assert paused.pause is not None
    assert (paused.pause.reason, paused.pause.paused_by) == ("first", "ada")
    assert state(yard, "slow").pause is None
    assert pauses_of(yard.services.databases, "w-1@h") == frozenset({"default"})
    yard.run(yard.services.queues.resume("default", Somebody("bob"), reason="done"))
    resumed = yard.run(yard.services.queues.resume("default", Somebody("bob"), reason="again"))
    assert resumed.pause is None
    assert pauses_of(yard.services.databases, "w-1@h") == frozenset()
    audit = yard.run(audit_of(yard.services.databases, "queue", "default"))[before:]
    told = [(row.actor, row.action, row.reason) for row in audit]
    assert told == [("ada", "queue.pause", "first"), ("bob", "queue.resume", "done")]


def test_a_caller_of_a_tenant_changes_nothing(install: Install) -> None:
    yard = install(queued)
    for change in (yard.services.queues.pause, yard.services.queues.resume):
        with pytest.raises(Forbidden, match="shared by all tenants"):
            yard.run(change("default", Somebody(tenant="acme")))
    assert pauses_of(yard.services.databases, "w-1@h") == frozenset()


def test_a_queue_that_is_not_there(install: Install) -> None:
    yard = install(queued)
    for call in (yard.services.queues.pause, yard.services.queues.resume):
        with pytest.raises(QueueNotFound) as caught:
            yard.run(call("defualt", Somebody()))
        assert "default" in str(caught.value.hint)


def test_what_waits_on_a_paused_queue_is_not_sent_again(install: Install) -> None:
    yard = install(queued)
    yard.submit("test.queued")
    yard.sql("UPDATE task_runs SET published_at = :then", then=then(yard))
    pause(yard)
    yard.transport.sent.clear()
    now = [0.0]
    sweeper = Sweeper(yard.services, clock=lambda: now[0])
    yard.run(sweeper.sweep())
    assert yard.transport.sent == []
    yard.run(yard.services.queues.resume("default", Somebody()))
    # It does not look for lost messages in every round.
    now[0] += yard.services.settings.celery.overdue_after_seconds
    yard.run(sweeper.sweep())
    assert len(yard.transport.sent) == 1


def test_the_gauge_tells_of_a_pause(install: Install) -> None:
    yard = install(queued)
    pause(yard)
    yard.run(yard.services.queue_levels.refresh())
    gauge = {
        name: REGISTRY.get_sample_value("taskyard_queue_paused", {"queue": name})
        for name in ("default", "slow")
    }
    assert gauge == {"default": 1, "slow": 0}
