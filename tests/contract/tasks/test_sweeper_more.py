"""The sweeper's leadership, bounds and retention; cancelled runs that fail or fall silent."""

import itertools
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from app import Retry, TaskContext, register_task
from app.common.ids import new_id
from app.config.settings import APPLICATION_BIND
from app.db.types import db_now, db_now_plus
from app.tasks import overdue
from app.tasks import sweeper as sweeping
from app.tasks.leadership import hold
from app.tasks.models import Lease, TaskRun
from app.tasks.requests import RunRequest
from app.tasks.results import result_key
from app.tasks.retention import Retention
from app.tasks.sweeper import Sweeper
from app.tasks.transitions import CLAIM, RELEASE, apply
from app.tasks.transport import Wakeup
from tests.contract.tasks.test_run_life import age
from tests.harness import Installation, Somebody
from tests.harness import _long_ago as long_ago

Install = Callable[..., Installation]


@register_task("test.plain", max_attempts=2)
async def plain() -> None:
    """Do nothing."""


@register_task("test.slow_plain", queue="slow")
async def slow_plain() -> None:
    """Do nothing elsewhere."""


@register_task("test.large")
async def large() -> str:
    """Return much."""
    return "x" * 70_000


def count(yard: Installation, table: str) -> int:
    (row,) = yard.sql(f"SELECT count(*) FROM {table}")
    return int(row[0])


def then(yard: Installation) -> Any:
    return "2001-01-01 00:00:00.000000" if yard.is_sqlite else long_ago()


def bound(yard: Installation, run_id: str) -> Any:
    return run_id if yard.is_sqlite else uuid.UUID(run_id)


def days_ago(yard: Installation, days: float) -> Any:
    moment = datetime.now(UTC) - timedelta(days=days)
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}" if yard.is_sqlite else moment


def end_lease(yard: Installation) -> None:
    yard.sql("UPDATE leases SET expires_at = :then", then=then(yard))


def start(yard: Installation, run_id: str) -> Any:
    values = {"run_id": run_id, "worker": "gone:1", "lease_seconds": 20.0}
    claim = yard.run(apply(yard.services.databases, CLAIM, values))
    assert claim is not None
    return claim


# Leadership.


def test_one_of_two_leads_until_its_lease_ends(install: Install) -> None:
    yard = install(plain)
    one, two = Sweeper(yard.services), Sweeper(yard.services)
    assert yard.run(one.sweep())
    assert not yard.run(two.sweep())
    assert yard.run(one.sweep())
    end_lease(yard)
    assert yard.run(two.sweep())
    assert not yard.run(one.sweep())


def test_after_an_outage_of_the_database_the_workers_beat_first(install: Install) -> None:
    yard = install(plain)
    clock = [100.0]
    sweeper = Sweeper(yard.services, lambda: clock[0])
    run_id = yard.submit("test.plain").task_id
    start(yard, run_id)
    yard.lose_lease(run_id)
    yard.sql("ALTER TABLE leases RENAME TO leases_away")
    with pytest.raises(DBAPIError):
        yard.run(sweeper.sweep())
    yard.sql("ALTER TABLE leases_away RENAME TO leases")
    two_beats = 2 * yard.services.settings.celery.heartbeat_seconds
    for passed, status in ((0, "RUNNING"), (two_beats - 1, "RUNNING"), (1, "RETRYING")):
        clock[0] += passed
        assert yard.run(sweeper.sweep())
        assert yard.row(run_id).status == status


def test_a_sweeper_that_does_not_lead_does_nothing(install: Install) -> None:
    yard = install(plain)
    leader, other = Sweeper(yard.services), Sweeper(yard.services)
    yard.run(leader.sweep())
    run_id = yard.submit("test.plain").task_id
    start(yard, run_id)
    yard.lose_lease(run_id)
    yard.run(other.sweep())
    assert yard.row(run_id).status == "RUNNING"
    yard.run(leader.sweep())
    assert yard.row(run_id).status == "RETRYING"


def test_a_leader_that_stood_still_ends_its_round(install: Install) -> None:
    yard = install(plain)
    clock = [100.0]
    old = Sweeper(yard.services, lambda: clock[0])
    lost, expired = (yard.submit("test.plain").task_id for _ in range(2))
    start(yard, lost)
    yard.lose_lease(lost)
    age(yard, expired, "expires_at")

    async def stand_still(wakeups: Sequence[Wakeup]) -> frozenset[str]:
        clock[0] += 60
        taken = update(Lease).values(holder="other", term=Lease.term + 1)
        async with yard.services.databases.begin(APPLICATION_BIND) as connection:
            await connection.execute(taken.values(expires_at=db_now_plus(60)))
        return frozenset(wakeup.run_id for wakeup in wakeups)

    yard.transport.send = stand_still  # type: ignore[method-assign] # it freezes while it sends
    assert not yard.run(old.sweep())
    # What it had begun is done, the next step is left to the other.
    assert [yard.row(run_id).status for run_id in (lost, expired)] == ["RETRYING", "PENDING"]


def test_the_term_tells_old_holders_from_new(install: Install) -> None:
    yard = install(plain)
    databases = yard.services.databases

    def take(holder: str, duty: str = "duty") -> int | None:
        return yard.run(hold(databases, duty, holder, 10))

    assert take("a") == 1
    assert take("a") == 1  # renewed
    assert take("b") is None
    assert take("b", "another duty") == 1
    end_lease(yard)
    assert take("a") == 1  # its own, renewed late
    end_lease(yard)
    assert take("b") == 2
    assert take("a") is None
    end_lease(yard)
    assert take("a") == 3


# Retention.


def submit_ended(yard: Installation, task: str = "test.plain") -> str:
    run_id = yard.submit(task).task_id
    yard.deliver(run_id)
    return run_id


def test_retention_takes_only_what_ended_long_ago(install: Install) -> None:
    yard = install(plain)
    old, fresh = submit_ended(yard), submit_ended(yard)
    waiting, running = yard.submit("test.plain").task_id, yard.submit("test.plain").task_id
    start(yard, running)
    age(yard, old, "finished_at")
    for run_id in (old, fresh, waiting, running):
        age(yard, run_id, "created_at")
    yard.run(Sweeper(yard.services).sweep())
    left = {str(row[0]) for row in yard.sql("SELECT id FROM task_runs")}
    assert left == {fresh, waiting, running}
    events = {str(row[0]) for row in yard.sql("SELECT run_id FROM task_run_events")}
    assert events == left


def test_retention_takes_the_result_file_and_the_key(install: Install) -> None:
    yard = install(large)
    run_id = yard.submit("test.large", idempotency_key="key").task_id
    yard.deliver(run_id)
    key = yard.row(run_id).result_ref
    assert yard.run(yard.services.storage.exists(key))
    age(yard, run_id, "finished_at")
    yard.run(Sweeper(yard.services).sweep())
    assert not yard.run(yard.services.storage.exists(key))
    assert count(yard, "idempotency_keys") == 0
    assert not yard.submit("test.large", idempotency_key="key").replayed


def test_retention_leaves_a_document_of_a_plugin(install: Install) -> None:
    from app import StoredResult

    @register_task("test.stored")
    async def stored(ctx: TaskContext) -> StoredResult:
        """Store a document."""
        await ctx.storage.put("jobs/one.json", b"{}")
        return StoredResult(key="jobs/one.json")

    yard = install(stored)
    run_id = submit_ended(yard, "test.stored")
    age(yard, run_id, "finished_at")
    yard.run(Sweeper(yard.services).sweep())
    assert count(yard, "task_runs") == 0
    assert yard.run(yard.services.storage.exists("jobs/one.json"))


def test_retention_goes_on_until_nothing_old_is_left(install: Install) -> None:
    yard = install(plain)
    for run_id in [submit_ended(yard) for _ in range(5)]:
        age(yard, run_id, "finished_at")
    assert yard.run(Retention(yard.services, limit=2).purge())
    assert count(yard, "task_runs") == 0


def test_a_purge_ends_with_its_budget_and_goes_on_the_next_time(install: Install) -> None:
    yard = install(plain)
    for run_id in [submit_ended(yard) for _ in range(5)]:
        age(yard, run_id, "finished_at")
    seconds = itertools.count()
    budget = yard.services.settings.retention.budget_seconds
    retention = Retention(yard.services, limit=2, clock=lambda: next(seconds) * budget)
    left = [5]
    while left[-1]:
        # The time is over after each part.
        assert not yard.run(retention.purge())
        left.append(count(yard, "task_runs"))
        assert len(left) < 50
    assert sorted(set(left)) == [0, 1, 3, 5]


def test_a_task_has_its_own_retention(install: Install) -> None:
    @register_task("test.short_lived", retention_days=2)
    async def short_lived() -> None:
        """Be forgotten soon."""

    @register_task("test.long_lived", retention_days=36_000)
    async def long_lived() -> None:
        """Be remembered for long."""

    yard = install(plain, short_lived, long_lived)
    runs = {name: submit_ended(yard, name) for name in ("test.short_lived", "test.long_lived")}
    fresh, old = submit_ended(yard, "test.short_lived"), submit_ended(yard)
    middle = submit_ended(yard)
    for run_id in (runs["test.short_lived"], middle):
        yard.sql(
            "UPDATE task_runs SET finished_at = :then WHERE id = :id",
            id=bound(yard, run_id),
            then=days_ago(yard, 5),
        )
    for run_id in (runs["test.long_lived"], old):
        age(yard, run_id, "finished_at")
    assert yard.run(Retention(yard.services).purge())
    left = {str(row[0]) for row in yard.sql("SELECT id FROM task_runs")}
    assert left == {fresh, middle, runs["test.long_lived"]}


def test_retention_takes_the_files_of_lost_attempts_and_no_others(install: Install) -> None:
    yard = install(large)
    gone, kept = submit_ended(yard, "test.large"), submit_ended(yard, "test.large")
    storage = yard.services.storage
    orphan = result_key(gone, 77)
    yard.run(storage.put(orphan, b"1"))
    yard.run(storage.put(result_key(kept, 77), b"1"))
    age(yard, gone, "finished_at")
    assert yard.run(Retention(yard.services).purge())
    assert not yard.run(storage.exists(orphan))
    assert yard.run(storage.exists(result_key(kept, 77)))
    assert yard.run(storage.exists(yard.row(kept).result_ref))


def test_retention_calls_what_other_rooms_forget(install: Install) -> None:
    called = []

    async def forget() -> int:
        called.append(1)
        return 3

    yard = install(plain)
    assert yard.run(Sweeper(yard.services, expired=[forget]).sweep())
    assert called == [1]


def test_dead_letters_and_keys_have_their_own_retention(install: Install) -> None:
    yard = install(plain)
    facts = {"queue": "default", "task": "t", "reason": "rejected", "headers": {}, "body": ""}
    for _ in range(2):
        yard.run(Sweeper(yard.services).archive_dead_letter({**facts, "run_id": new_id()}))
    first = yard.sql("SELECT id FROM dead_letters ORDER BY id")[0][0]
    yard.sql("UPDATE dead_letters SET created_at = :then WHERE id = :id", then=then(yard), id=first)
    yard.submit("test.plain", idempotency_key="old")
    yard.sql("UPDATE idempotency_keys SET expires_at = :then", then=then(yard))
    yard.submit("test.plain", idempotency_key="fresh")
    yard.run(Sweeper(yard.services).sweep())
    assert [row[0] != first for row in yard.sql("SELECT id FROM dead_letters")] == [True]
    assert [row[0] for row in yard.sql("SELECT key FROM idempotency_keys")] == ["fresh"]
    assert count(yard, "task_runs") == 2


def test_retention_has_its_turn_now_and_then(install: Install) -> None:
    yard = install(plain)
    now = [100.0]
    one = Sweeper(yard.services, clock=lambda: now[0])
    yard.run(one.sweep())
    age(yard, submit_ended(yard), "finished_at")
    now[0] += yard.services.settings.retention.interval_seconds - 1
    yard.run(one.sweep())
    assert count(yard, "task_runs") == 1
    now[0] += 1
    yard.run(one.sweep())
    assert count(yard, "task_runs") == 0


# Expiry.


def test_what_nobody_wants_any_more_expires(install: Install) -> None:
    yard = install(plain)
    pending = yard.submit("test.plain").task_id
    scheduled = yard.submit("test.plain", options={"delay_seconds": 3600}).task_id
    running, fresh = yard.submit("test.plain").task_id, yard.submit("test.plain").task_id
    start(yard, running)
    for run_id in (pending, scheduled, running):
        age(yard, run_id, "expires_at")
    yard.run(Sweeper(yard.services).sweep())
    statuses = [yard.row(run_id).status for run_id in (pending, scheduled, running, fresh)]
    assert statuses == ["EXPIRED", "EXPIRED", "RUNNING", "PENDING"]
    assert yard.events(pending)[-1] == ("PENDING", "EXPIRED")
    assert yard.row(pending).finished_at is not None


# Sending again.


class CountingTransport:
    """Lets the transport of the harness count how often it is called."""

    def __init__(self, yard: Installation) -> None:
        self.calls = 0
        self._send = yard.transport.send
        yard.transport.send = self.send  # type: ignore[method-assign] # a spy on the port

    async def send(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        self.calls += 1
        return await self._send(wakeups)


def test_recovered_runs_are_sent_in_one_call(install: Install) -> None:
    yard = install(plain)
    made = [yard.submit("test.plain").task_id for _ in range(5)]
    for run_id in made:
        start(yard, run_id)
        yard.lose_lease(run_id)
    yard.transport.sent.clear()
    counting = CountingTransport(yard)
    yard.run(Sweeper(yard.services).sweep())
    assert counting.calls == 1
    assert {wakeup.run_id for wakeup in yard.transport.sent} == set(made)
    assert {yard.row(run_id).status for run_id in made} == {"RETRYING"}
    assert all(yard.row(run_id).published_at is not None for run_id in made)


def test_a_long_queue_does_not_hide_an_emptied_one(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "_LIMIT", 2)
    yard = install(plain, slow_plain)
    busy = [yard.submit("test.plain").task_id for _ in range(5)]
    lost = yard.submit("test.slow_plain").task_id
    for run_id in (*busy, lost):
        age(yard, run_id, "published_at")
    yard.transport.sent.clear()
    yard.transport.backlogs.update({"default": 5, "slow": 0})
    yard.run(Sweeper(yard.services).sweep())
    assert [wakeup.run_id for wakeup in yard.transport.sent] == [lost]


@pytest.mark.parametrize(
    ("priority", "came", "is_lost"),
    [
        (5, "now", True),
        # Those of another queue may overtake, and so may one that came at about the same time.
        (0, "now", False),
        (9, "now", False),
        (5, "with it", False),
    ],
)
def test_a_run_that_a_later_one_overtook_is_sent_again(
    install: Install, priority: int, came: str, is_lost: bool
) -> None:
    yard = install(plain)
    lost, waiting, taken = (
        yard.submit("test.plain", options={"priority": number}).task_id
        for number in (5, 5, priority)
    )
    age(yard, lost, "published_at")
    if came == "with it":
        age(yard, taken, "published_at")
    start(yard, taken)
    yard.transport.sent.clear()
    # The queue is never empty, so that alone does not tell.
    yard.transport.backlogs["default"] = 1
    yard.run(Sweeper(yard.services).sweep())
    assert [wakeup.run_id for wakeup in yard.transport.sent] == ([lost] if is_lost else [])
    assert yard.row(waiting).published_at is not None


def test_all_that_is_unpublished_is_sent_in_one_round(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "_LIMIT", 2)
    yard = install(plain)
    sweeper = Sweeper(yard.services)
    yard.transport.confirms = False
    runs = [yard.submit("test.plain").task_id for _ in range(5)]
    for run_id in runs:
        age(yard, run_id, "updated_at")
    counting = CountingTransport(yard)
    yard.run(sweeper.sweep())
    # Nobody answers, so it is not tried again and again.
    assert counting.calls == 1
    yard.transport.confirms = True
    yard.run(sweeper.sweep())
    assert {wakeup.run_id for wakeup in yard.transport.sent} == set(runs)


def test_what_somebody_has_published_meanwhile_is_not_sent_again(install: Install) -> None:
    yard = install(plain)
    run_id = yard.submit("test.plain").task_id
    age(yard, run_id, "published_at")
    yard.transport.sent.clear()

    async def backlog(queues: Sequence[str]) -> Mapping[str, int]:
        # A former leader's view is as old as this when it thaws.
        async with yard.services.databases.begin(APPLICATION_BIND) as connection:
            await connection.execute(update(TaskRun).values(published_at=db_now()))
        return dict.fromkeys(queues, 0)

    yard.transport.backlog = backlog  # type: ignore[method-assign] # the world moves on
    yard.run(Sweeper(yard.services).sweep())
    assert yard.transport.sent == []


def test_a_queue_that_cannot_be_read_is_left_alone(install: Install) -> None:
    yard = install(plain)
    age(yard, yard.submit("test.plain").task_id, "published_at")
    yard.transport.sent.clear()

    async def backlog(queues: Sequence[str]) -> Mapping[str, int]:
        return {}

    yard.transport.backlog = backlog  # type: ignore[method-assign] # a broker that is away
    yard.run(Sweeper(yard.services).sweep())
    assert yard.transport.sent == []


def test_an_unpublished_run_that_is_not_due_is_sent_with_the_rest_of_its_delay(
    install: Install,
) -> None:
    yard = install(plain)
    yard.transport.confirms = False
    run_id = yard.submit("test.plain", options={"delay_seconds": 3600}).task_id
    age(yard, run_id, "updated_at")
    yard.transport.confirms = True
    yard.run(Sweeper(yard.services).sweep())
    assert 3500 < yard.transport.sent[0].delay_seconds <= 3600


def test_a_fresh_row_is_left_to_its_publisher(install: Install) -> None:
    yard = install(plain)
    yard.transport.confirms = False
    yard.submit("test.plain")
    yard.transport.confirms = True
    yard.run(Sweeper(yard.services).sweep())
    assert yard.transport.sent == []


def test_a_late_mark_does_not_touch_a_later_attempt(install: Install) -> None:
    @register_task("test.again", backoff_seconds=0)
    async def again() -> None:
        """Ask for another attempt."""
        raise Retry(after=0)

    yard = install(again)
    yard.transport.confirms = False
    run_id = yard.submit("test.again").task_id
    first = Wakeup(run_id, "test.again", "default", fence=0)
    yard.deliver(run_id)
    assert yard.row(run_id).published_at is None
    yard.transport.confirms = True
    yard.run(yard.services.outbox.flush([first]))
    assert yard.row(run_id).published_at is None
    second = Wakeup(run_id, "test.again", "default", fence=yard.row(run_id).fence)
    yard.run(yard.services.outbox.flush([second]))
    assert yard.row(run_id).published_at is not None


# Cancelled while it ran.


def cancel_inside(yard: Installation, run_id: str) -> Any:
    return yard.services.runs.cancel(run_id, Somebody())


def test_a_cancelled_run_that_fails_has_no_next_attempt(install: Install) -> None:
    @register_task("test.fails_later")
    async def fails_later(ctx: TaskContext) -> None:
        """Be cancelled and fail."""
        await cancel_inside(yard, ctx.task_id)
        raise ValueError

    yard = install(fails_later)
    run_id = yard.submit("test.fails_later").task_id
    yard.transport.sent.clear()
    yard.deliver(run_id)
    row = yard.row(run_id)
    assert (row.status, row.dead_letter_id, row.lease_owner) == ("CANCELLED", None, None)
    assert row.finished_at is not None
    assert yard.events(run_id)[-1] == ("RUNNING", "CANCELLED")
    assert yard.transport.sent == []


def test_a_cancelled_run_whose_worker_falls_silent_is_cancelled(install: Install) -> None:
    yard = install(plain)
    run_id = yard.submit("test.plain").task_id
    start(yard, run_id)
    yard.run(cancel_inside(yard, run_id))
    yard.lose_lease(run_id)
    yard.run(Sweeper(yard.services).sweep())
    row = yard.row(run_id)
    assert (row.status, row.dead_letter_id) == ("CANCELLED", None)
    assert count(yard, "dead_letters") == 0


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("cancelled", [True, False])
def test_a_released_run_is_charged_no_attempt(
    install: Install, attempts: int, cancelled: bool
) -> None:
    yard = install(plain)
    run_id = yard.submit("test.plain").task_id
    claim = start(yard, run_id)
    for _ in range(attempts - 1):
        yard.lose_lease(run_id)
        claim = start(yard, run_id)
    if cancelled:
        yard.run(cancel_inside(yard, run_id))
    values = {"run_id": run_id, "owner": claim.lease_owner}
    yard.run(apply(yard.services.databases, RELEASE, values))
    row = yard.row(run_id)
    wanted = "CANCELLED" if cancelled else ("PENDING" if attempts == 1 else "RETRYING")
    assert (row.status, row.attempt, row.lease_owner) == (wanted, attempts - 1, None)
    assert (row.finished_at is not None) is cancelled


def test_the_task_sees_that_it_is_cancelled(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.tasks.context._CANCEL_CHECK_SECONDS", 0)

    @register_task("test.looks")
    async def looks(ctx: TaskContext) -> None:
        """Look whether it is wanted."""
        ctx.raise_if_cancelled()
        await cancel_inside(yard, ctx.task_id)
        assert ctx.cancelled
        ctx.raise_if_cancelled()

    yard = install(looks)
    run_id = yard.submit("test.looks").task_id
    yard.deliver(run_id)
    row = yard.row(run_id)
    assert (row.status, row.error, row.dead_letter_id) == ("CANCELLED", None, None)


def test_requests_know_their_batch_and_origin(install: Install) -> None:
    yard = install(plain)
    batch, origin = new_id(), new_id()
    run_id = yard.submit("test.plain", batch_id=batch, replay_of=origin).task_id
    assert (yard.row(run_id).batch_id, yard.row(run_id).replay_of) == (batch, origin)
    assert RunRequest(task="test.plain").task_id != RunRequest(task="test.plain").task_id
