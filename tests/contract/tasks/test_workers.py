"""Workers that tell of themselves, and draining them, on both application databases."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from app import register_task
from app.common.errors import Forbidden
from app.tasks.audit import audit_of
from app.tasks.errors import WorkerNotFound
from app.tasks.queues import pauses_of
from app.tasks.workers import WorkerFacts, announce, leave
from tests.contract.tasks.test_limits import then
from tests.harness import Installation, Somebody

Install = Callable[..., Installation]
FACTS = WorkerFacts(name="w-1@h", queues=("default", "slow"), concurrency=2, active=0)


@register_task("test.worked")
async def worked() -> None:
    """Do nothing."""


def names(yard: Installation) -> list[str]:
    return [row.name for row in yard.run(yard.services.workers.list())]


def drain(yard: Installation, reason: str | None = None) -> None:
    yard.run(yard.services.workers.drain("w-1@h", Somebody("ada"), reason=reason))


@pytest.fixture
def yard(install: Install) -> Installation:
    made = install(worked)
    made.sql("DELETE FROM workers")
    announce(made.services.databases, FACTS, is_new=True)
    return made


def test_a_worker_is_seen_with_what_it_told_last(yard: Installation) -> None:
    first = yard.run(yard.services.workers.get("w-1@h"))
    assert (first.queues, first.concurrency, first.active) == (["default", "slow"], 2, 0)
    assert (first.is_alive, first.drained_at) == (True, None)
    announce(yard.services.databases, replace(FACTS, active=2), is_new=False)
    second = yard.run(yard.services.workers.get("w-1@h"))
    assert (second.active, second.started_at) == (2, first.started_at)
    assert second.seen_at >= first.seen_at
    leave(yard.services.databases, "w-1@h")
    assert names(yard) == []


def test_a_silent_worker_is_not_alive_and_forgotten_after_a_day(yard: Installation) -> None:
    yard.sql("UPDATE workers SET seen_at = :then", then=then(yard))
    assert not yard.run(yard.services.workers.get("w-1@h")).is_alive
    other = replace(FACTS, name="w-2@h")
    announce(yard.services.databases, other, is_new=False)
    assert names(yard) == ["w-1@h", "w-2@h"]
    announce(yard.services.databases, other, is_new=True)
    assert names(yard) == ["w-2@h"]


def test_a_drain_is_kept_over_heartbeats_and_told_once(yard: Installation) -> None:
    databases = yard.services.databases
    before = len(yard.run(audit_of(databases, "worker", "w-1@h")))
    assert pauses_of(databases, "w-1@h") == frozenset()
    assert announce(databases, FACTS, is_new=False) == frozenset()
    drain(yard, "first")
    drain(yard, "second")
    assert announce(databases, FACTS, is_new=False) is None
    row = yard.run(yard.services.workers.get("w-1@h"))
    assert (row.drained_by, row.drain_reason) == ("ada", "first")
    assert pauses_of(databases, "w-1@h") is None
    assert pauses_of(databases, "w-2@h") == frozenset()
    for _ in range(2):
        yard.run(yard.services.workers.resume("w-1@h", Somebody("bob"), reason="done"))
    assert pauses_of(databases, "w-1@h") == frozenset()
    audit = yard.run(audit_of(databases, "worker", "w-1@h"))[before:]
    assert sorted((entry.action, entry.actor, entry.reason) for entry in audit) == [
        ("worker.drain", "ada", "first"),
        ("worker.resume", "bob", "done"),
    ]


def test_a_worker_that_starts_again_is_not_drained(yard: Installation) -> None:
    drain(yard)
    assert announce(yard.services.databases, FACTS, is_new=True) == frozenset()
    row = yard.run(yard.services.workers.get("w-1@h"))
    assert (row.drained_at, row.drained_by, row.drain_reason) == (None, None, None)


@pytest.mark.parametrize("verb", ["drain", "resume"])
def test_who_cannot_change_a_worker(yard: Installation, verb: str) -> None:
    change = getattr(yard.services.workers, verb)
    with pytest.raises(WorkerNotFound):
        yard.run(change("nobody", Somebody()))
    with pytest.raises(Forbidden):
        yard.run(change("w-1@h", Somebody(tenant="acme")))
    assert pauses_of(yard.services.databases, "w-1@h") == frozenset()
