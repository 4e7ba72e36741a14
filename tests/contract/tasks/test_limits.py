"""Limits over all workers, on both application databases: slots, keys, turns, rates, healing."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import select, update

from app import register_task
from app.celery_worker.delays import LADDER_SECONDS
from app.config.settings import APPLICATION_BIND
from app.db.types import db_now_plus
from app.tasks import limiting
from app.tasks.heartbeat import is_overlooked
from app.tasks.limit_models import RateBucket
from app.tasks.sweeper import Sweeper
from app.tasks.transitions import CLAIM, apply
from tests.harness import Installation, Somebody
from tests.harness import _long_ago as long_ago
from tests.harness import _uuid as native_id

Install = Callable[..., Installation]
seen: list[str] = []


@register_task("test.single", max_concurrency=1, max_attempts=3, backoff_seconds=0)
async def single(name: str = "", fails: bool = False) -> None:
    """Note its name."""
    seen.append(name)
    if fails:
        raise ValueError


@register_task("test.pair", max_concurrency=2)
async def pair() -> None:
    """Do nothing."""


@register_task("test.keyed", max_concurrency=1, concurrency_key="{host}:{port}")
async def keyed(host: str, port: int = 80) -> None:
    """Do nothing."""


@register_task("test.rated", rate_limit="30/m")
async def rated(name: str = "") -> None:
    """Note its name."""
    seen.append(name)


@register_task("test.free")
async def free() -> None:
    """Do nothing."""


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def start(yard: Installation, task: str, params: dict[str, Any] | None = None) -> str:
    """Let a run of the task begin on another worker and stay there."""
    run_id = yard.submit(task, params).task_id
    row = yard.row(run_id)
    values = {"run_id": run_id, "worker": "other:1", "actor": "worker", "lease_seconds": 60.0}
    yard.run(yard.services.limiter.claim(row, values))
    assert yard.row(run_id).status == "RUNNING"
    return run_id


def status(yard: Installation, run_id: str) -> str:
    return str(yard.row(run_id).status)


def waits(yard: Installation, run_id: str) -> bool:
    row = yard.row(run_id)
    return row.status == "PENDING" and row.held_until is not None and row.attempt == 0


def then(yard: Installation) -> Any:
    return "2001-01-01 00:00:00.000000" if yard.is_sqlite else long_ago()


def come(yard: Installation, run_id: str) -> None:
    """Let the delay of a held run be over, and deliver its message."""
    yard.sql(
        "UPDATE task_runs SET held_until = :then WHERE id = :id",
        id=run_id if yard.is_sqlite else native_id(run_id),
        then=then(yard),
    )
    yard.deliver(run_id)


def sent(yard: Installation) -> list[tuple[str, float]]:
    """Return what was sent since the last look: run and delay."""
    wakeups = [(one.run_id, one.delay_seconds) for one in yard.transport.sent]
    yard.transport.sent.clear()
    return wakeups


# Slots.


def test_a_run_over_the_limit_goes_round_and_is_not_charged(install: Install) -> None:
    yard = install(single)
    start(yard, "test.single")
    second = yard.submit("test.single").task_id
    sent(yard)
    yard.deliver(second)
    assert waits(yard, second)
    ((run_id, delay),) = sent(yard)
    assert run_id == second
    assert delay in LADDER_SECONDS
    assert yard.row(second).published_at is not None
    assert yard.events(second) == [(None, "PENDING")]


def test_the_limit_is_a_number_of_slots(install: Install) -> None:
    yard = install(pair)
    start(yard, "test.pair")
    start(yard, "test.pair")
    third = yard.submit("test.pair").task_id
    yard.deliver(third)
    assert waits(yard, third)


def test_another_key_is_another_limit(install: Install) -> None:
    yard = install(keyed)
    start(yard, "test.keyed", {"host": "a"})
    same = yard.submit("test.keyed", {"host": "a", "port": 80}).task_id
    other = yard.submit("test.keyed", {"host": "a", "port": 81}).task_id
    yard.deliver(same)
    yard.deliver(other)
    assert waits(yard, same)
    assert status(yard, other) == "SUCCEEDED"


def test_a_task_without_limits_has_no_key(install: Install) -> None:
    yard = install(free, keyed)
    assert yard.row(yard.submit("test.free").task_id).limit_key is None
    with_key = yard.submit("test.keyed", {"host": "a"}).task_id
    assert yard.row(with_key).limit_key == "test.keyed:a:80"


def test_the_plain_claim_leaves_limited_runs_alone(install: Install) -> None:
    yard = install(single)
    run_id = yard.submit("test.single").task_id
    values = {"run_id": run_id, "worker": "other:1", "lease_seconds": 60.0}
    assert yard.run(apply(yard.services.databases, CLAIM, values)) is None


def test_a_derived_task_shares_the_limit_of_its_base(install: Install) -> None:
    yard = install(single)
    yard.run(
        yard.services.catalogue.register(
            name="test.derived", base_task="test.single", created_by="x", params={"name": "d"}
        )
    )
    start(yard, "test.single")
    derived = yard.submit("test.derived").task_id
    yard.deliver(derived)
    assert waits(yard, derived)


# Turns.


def test_who_ends_calls_the_one_that_waits_longest(install: Install) -> None:
    yard = install(single)
    running = start(yard, "test.single")
    waiting = [yard.submit("test.single", {"name": name}).task_id for name in "abc"]
    for run_id in waiting:
        yard.deliver(run_id)
    yard.lose_lease(running)
    sent(yard)
    come(yard, waiting[0])
    assert sent(yard) == [(waiting[1], 0.0)]
    yard.deliver(waiting[1])
    yard.deliver(waiting[2])
    assert seen == ["a", "b", "c"]


def test_a_younger_run_does_not_overtake(install: Install) -> None:
    yard = install(single)
    running = start(yard, "test.single")
    older = yard.submit("test.single", {"name": "older"}).task_id
    yard.deliver(older)
    younger = yard.submit("test.single", {"name": "younger"}).task_id
    yard.lose_lease(running)
    sent(yard)
    yard.deliver(younger)
    assert waits(yard, younger)
    assert (older, 0.0) in sent(yard)
    yard.deliver(older)
    come(yard, younger)
    assert seen == ["older", "younger"]


def test_a_run_that_does_not_come_when_called_loses_its_turn(install: Install) -> None:
    yard = install(single)
    running = start(yard, "test.single")
    lost = yard.submit("test.single").task_id
    yard.deliver(lost)
    yard.lose_lease(running)
    yard.sql(
        "UPDATE task_runs SET held_until = :then WHERE held_until IS NOT NULL",
        then=then(yard),
    )
    younger = yard.submit("test.single").task_id
    yard.deliver(younger)
    assert status(yard, younger) == "SUCCEEDED"


def test_one_that_waits_on_a_paused_queue_keeps_nobody_waiting(install: Install) -> None:
    yard = install(single)
    running = start(yard, "test.single")
    elsewhere = yard.submit("test.single", options={"queue": "slow"}).task_id
    yard.deliver(elsewhere)
    yard.sql("INSERT INTO queue_pauses (queue, paused_by) VALUES ('slow', 'x')")
    yard.lose_lease(running)
    younger = yard.submit("test.single").task_id
    yard.deliver(younger)
    assert status(yard, younger) == "SUCCEEDED"
    assert yard.run(yard.services.limiter.call_waiting()) == 0


def test_a_message_that_comes_twice_is_not_sent_round_twice(install: Install) -> None:
    yard = install(single)
    start(yard, "test.single")
    second = yard.submit("test.single").task_id
    sent(yard)
    for _ in range(3):
        yard.deliver(second)
    assert len(sent(yard)) == 1


def test_a_failed_attempt_lets_go_of_its_slot(install: Install) -> None:
    yard = install(single)
    failing = yard.submit("test.single", {"name": "fails", "fails": True}).task_id
    waiting = yard.submit("test.single", {"name": "waits"}).task_id
    yard.deliver(failing)
    assert status(yard, failing) == "RETRYING"
    yard.deliver(waiting)
    assert status(yard, waiting) == "SUCCEEDED"


# Healing.


def test_a_lost_lease_is_a_free_slot(install: Install) -> None:
    yard = install(single)
    lost = start(yard, "test.single")
    waiting = yard.submit("test.single").task_id
    yard.deliver(waiting)
    assert yard.run(yard.services.limiter.call_waiting()) == 0
    yard.lose_lease(lost)
    sent(yard)
    yard.run(Sweeper(yard.services).sweep())
    assert (waiting, 0.0) in sent(yard)
    # Called once: the next round leaves the slot to the one that was called.
    assert yard.run(yard.services.limiter.call_waiting()) == 0
    yard.deliver(waiting)
    assert status(yard, waiting) == "SUCCEEDED"


def test_a_message_that_the_broker_did_not_take_is_left_to_the_sweeper(install: Install) -> None:
    yard = install(single)
    start(yard, "test.single")
    second = yard.submit("test.single").task_id
    yard.transport.confirms = False
    yard.deliver(second)
    assert yard.row(second).published_at is None
    yard.transport.confirms = True
    sent(yard)
    yard.sql(
        "UPDATE task_runs SET updated_at = :then WHERE held_until IS NOT NULL",
        then=then(yard),
    )
    yard.run(Sweeper(yard.services).sweep())
    ((run_id, delay),) = sent(yard)
    assert run_id == second
    assert delay > 0


def test_a_held_run_is_not_overdue(install: Install) -> None:
    yard = install(single)
    start(yard, "test.single")
    second = yard.submit("test.single").task_id
    yard.deliver(second)
    yard.sql("UPDATE task_runs SET published_at = :then", then=then(yard))
    sent(yard)
    yard.run(Sweeper(yard.services).sweep())
    assert sent(yard) == []
    assert not is_overlooked(yard.services.databases, ["default"], 30.0)
    come(yard, second)
    yard.sql("UPDATE task_runs SET published_at = :then, held_until = :then", then=then(yard))
    assert is_overlooked(yard.services.databases, ["default"], 30.0)


def test_a_held_run_can_be_cancelled_and_makes_room(install: Install) -> None:
    yard = install(single)
    running = start(yard, "test.single")
    first, second = (yard.submit("test.single").task_id for _ in range(2))
    yard.deliver(first)
    yard.deliver(second)
    yard.run(yard.services.runs.cancel(first, Somebody()))
    yard.lose_lease(running)
    come(yard, second)
    assert status(yard, second) == "SUCCEEDED"


# Rates.


def test_a_rate_lets_starts_through_at_its_pace(install: Install) -> None:
    yard = install(rated)
    first, second, third = (yard.submit("test.rated", {"name": name}).task_id for name in "abc")
    yard.deliver(first)
    sent(yard)
    yard.deliver(second)
    yard.deliver(third)
    assert seen == ["a"]
    delays = dict(sent(yard))
    # Every two seconds, one second early at most; the third is behind the second.
    assert 0.5 <= delays[second] <= 1.0
    assert 2.0 <= delays[third] <= 3.0
    assert waits(yard, second)


def test_a_start_that_came_early_moves_the_next_one_no_nearer(install: Install) -> None:
    yard = install(rated)
    first, second = (yard.submit("test.rated", {"name": name}).task_id for name in "ab")
    yard.deliver(first)
    # Half a second from now: within what a start may come early.
    due = db_now_plus(0.5)
    statement = update(RateBucket).values(next_at=due).returning(RateBucket.next_at)
    before = next_at(yard, statement)
    yard.deliver(second)
    assert seen == ["a", "b"]
    after = next_at(yard, select(RateBucket.next_at))
    assert (after - before).total_seconds() == pytest.approx(2.0)


def next_at(yard: Installation, statement: Any) -> datetime:
    async def read() -> datetime:
        async with yard.services.databases.begin(APPLICATION_BIND) as connection:
            moment: datetime = (await connection.execute(statement)).scalar_one()
            return moment

    return yard.run(read())


def test_a_rate_forgets_what_was_not_used(install: Install) -> None:
    yard = install(rated)
    yard.deliver(yard.submit("test.rated").task_id)
    yard.sql("UPDATE rate_buckets SET next_at = :then", then=then(yard))
    one, two = (yard.submit("test.rated", {"name": name}).task_id for name in "ab")
    yard.deliver(one)
    yard.deliver(two)
    assert seen == ["", "a"]


def test_a_claim_that_fails_costs_no_token(install: Install) -> None:
    yard = install(rated)
    run_id = yard.submit("test.rated", options={"expires_at": None}).task_id
    row = yard.row(run_id)
    yard.sql("UPDATE task_runs SET attempt = max_attempts")
    values = {"run_id": run_id, "worker": "other:1", "actor": "worker", "lease_seconds": 60.0}
    assert yard.run(yard.services.limiter.claim(row, values)) is None
    assert yard.sql("SELECT count(*) FROM rate_buckets")[0][0] == 0


def test_every_wait_is_a_delay_that_the_broker_keeps() -> None:
    assert set(limiting.WAITS_SECONDS) <= set(LADDER_SECONDS)
