"""Many runs in one commit: all or none, once per key, counted and cancelled."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app import register_task
from app.common.errors import Forbidden
from app.common.ids import new_id
from app.common.tracing import new_trace
from app.tasks.batches import SubmittedBatch, forget_batches
from app.tasks.errors import BatchNotFound, IdempotencyKeyReused, InvalidBatch, ParamsTooLarge
from app.tasks.outbox import Outbox
from app.tasks.requests import RunOptions, RunRequest
from app.tasks.run_lists import RunFilters
from app.tasks.statuses import Status
from app.tasks.transport import Wakeup
from app.testing import MemoryTransport
from tests.harness import Installation, Somebody
from tests.harness import _long_ago as long_ago

LONG_AGO: dict[bool, Any] = {True: "2001-01-01 00:00:00.000000", False: long_ago()}
Install = Callable[..., Installation]


@register_task("test.add", queue="slow", max_attempts=4, version="7")
async def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@register_task("test.unique", unique_for_seconds=3600)
async def unique(a: int) -> int:
    """Return the number."""
    return a


@register_task("test.guarded", required_scope="vault:open")
async def guarded() -> None:
    """Ask for a scope."""


def adding(*numbers: int, **more: Any) -> list[RunRequest]:
    return [RunRequest(task="test.add", params={"a": number}, **more) for number in numbers]


def unique_ones(*numbers: int) -> list[RunRequest]:
    return [RunRequest(task="test.unique", params={"a": number}) for number in numbers]


def submit(
    yard: Installation,
    requests: Sequence[RunRequest],
    key: str | None = None,
    caller: Somebody | None = None,
) -> SubmittedBatch:
    async def accept() -> SubmittedBatch:
        accepted = await yard.services.batches.submit(
            requests, principal=caller or Somebody(), trace=new_trace(), idempotency_key=key
        )
        await yard.services.outbox.close()
        return accepted

    return yard.run(accept())


def count(yard: Installation, table: str) -> int:
    return len(yard.sql(f"SELECT * FROM {table}"))


def test_the_runs_are_those_that_single_requests_would_make(install: Install) -> None:
    yard = install(add)
    options = RunOptions(priority=9, timeout_seconds=3, max_attempts=2, queue="default")
    wish = RunRequest(
        task="test.add", params={"a": 1, "b": 3}, options=options, labels={"team": "ü"}
    )
    batch = submit(yard, [wish, *adding(5)])
    alone = {"options": options.model_dump(), "labels": wish.labels}
    single = yard.submit("test.add", {"a": 1, "b": 3}, **alone)
    made, alike = yard.row(batch.task_ids[0]), yard.row(single.task_id)
    own = {"id", "trace_id", "created_at", "updated_at", "batch_id", "published_at"}
    assert {name: value for name, value in made._asdict().items() if name not in own} == {
        name: value for name, value in alike._asdict().items() if name not in own
    }
    assert made.batch_id == batch.batch_id
    assert made.published_at is not None
    assert yard.events(made.id) == [(None, "PENDING")]
    other = yard.row(batch.task_ids[1])
    assert (other.queue, other.max_attempts, other.task_version) == ("slow", 4, "7")
    for run_id in batch.task_ids:
        yard.deliver(run_id)
    assert [yard.row(run_id).result for run_id in batch.task_ids] == [4, 7]


def test_due_times_are_kept(install: Install) -> None:
    yard = install(add)
    moment = datetime.now(UTC) + timedelta(hours=1)
    options = (RunOptions(delay_seconds=60), RunOptions(run_at=moment), RunOptions(delay_seconds=0))
    batch = submit(yard, [adding(1, options=one)[0] for one in options])
    delayed, at, now = (yard.row(run_id) for run_id in batch.task_ids)
    assert [row.status for row in (delayed, at, now)] == ["SCHEDULED", "SCHEDULED", "PENDING"]
    assert (
        timedelta(seconds=59) < delayed.scheduled_for - delayed.created_at < timedelta(seconds=61)
    )
    assert at.scheduled_for == moment
    sent = {wakeup.run_id: wakeup.delay_seconds for wakeup in yard.transport.sent}
    assert 55 < sent[delayed.id] <= 60
    assert 3500 < sent[at.id] <= 3600
    assert sent[now.id] == 0


def test_ten_thousand_are_one_commit(install: Install) -> None:
    yard = install(add)
    batch = submit(yard, adding(*range(10_000)))
    assert len(set(batch.task_ids)) == len(batch.task_ids) == 10_000
    assert count(yard, "task_runs") == count(yard, "task_run_events") == 10_000
    assert yard.row(batch.task_ids[4711]).params == {"a": 4711}
    state = yard.run(yard.services.batches.get(batch.batch_id, Somebody()))
    assert (state.total, state.counts[Status.PENDING], sum(state.counts.values())) == (
        10_000,
        10_000,
        10_000,
    )
    assert {wakeup.run_id for wakeup in yard.transport.sent} == set(batch.task_ids)
    unpublished = yard.sql("SELECT id FROM task_runs WHERE published_at IS NULL")
    assert unpublished == []


def test_one_wrong_item_refuses_all(install: Install) -> None:
    yard = install(add)
    wishes = [
        *adding(1, 2),
        RunRequest(task="test.add", params={"a": "x", "c": 1}),
        RunRequest(task="test.ad", params={}),
        RunRequest(task="bad\x00name" + "x" * 300),
        RunRequest(task="test.add", params={"a": 1}, options=RunOptions(queue="nowhere")),
    ]
    with pytest.raises(InvalidBatch, match="4 items are wrong") as caught:
        submit(yard, wishes, key="k")
    places = {fault.loc: fault for fault in caught.value.errors}
    assert set(places) == {
        ("items", 2, "params", "a"),
        ("items", 2, "params", "c"),
        ("items", 3, "task"),
        ("items", 4, "task"),
        ("items", 5, "options", "queue"),
    }
    assert "'test.add'" in places["items", 3, "task"].msg
    assert count(yard, "task_runs") == count(yard, "batches") == 0
    assert yard.transport.sent == []
    # The key of what was refused is free.
    assert not submit(yard, adding(1), key="k").replayed


def test_the_faults_that_are_told_are_bounded(install: Install) -> None:
    wishes = [RunRequest(task=f"test.no_{number}") for number in range(5000)]
    with pytest.raises(InvalidBatch, match="At least 100 items") as caught:
        submit(install(add), wishes)
    assert len(caught.value.errors) == 100


def test_parameters_that_are_too_large_are_named(install: Install) -> None:
    yard = install(add)
    large = RunRequest(task="test.add", params={"a": "x" * 300_000})
    with pytest.raises(ParamsTooLarge) as caught:
        submit(yard, [*adding(1), large])
    assert [fault.loc for fault in caught.value.errors] == [("items", 1, "params")]
    with pytest.raises(InvalidBatch):
        submit(yard, [large, RunRequest(task="test.add", params={})])
    assert count(yard, "task_runs") == 0


def test_a_task_may_ask_for_its_own_scope(install: Install) -> None:
    yard = install(add, guarded)
    with pytest.raises(Forbidden, match="vault:open"):
        submit(
            yard,
            [*adding(1), RunRequest(task="test.guarded")],
            caller=Somebody(scopes=frozenset({"tasks:run"})),
        )
    assert count(yard, "task_runs") == 0


def test_derived_tasks_and_aliases_are_found(install: Install) -> None:
    yard = install(add)
    yard.run(
        yard.services.catalogue.register(
            name="test.add_five", base_task="test.add", created_by="x", params={"b": 5}
        )
    )
    batch = submit(yard, [RunRequest(task="test.add_five", params={"a": 1})])
    row = yard.row(batch.task_ids[0])
    assert (row.task, row.function, row.params) == ("test.add_five", "test.add", {"a": 1, "b": 5})


# Idempotency.


def test_the_same_batch_gets_the_same_answer(install: Install) -> None:
    yard = install(add, unique)
    wishes = [*adding(1, 2), *unique_ones(1, 1)]
    first = submit(yard, wishes, key="k")
    again = submit(yard, [replace(wish, task_id=new_id()) for wish in wishes], key="k")
    assert again == replace(first, replayed=True)
    assert count(yard, "task_runs") == 3
    with pytest.raises(IdempotencyKeyReused):
        submit(yard, adding(1, 2), key="k")
    with pytest.raises(IdempotencyKeyReused):
        submit(yard, [*reversed(wishes)], key="k")
    # A key of a single run is another endpoint's.
    assert not yard.submit("test.add", {"a": 1}, idempotency_key="k").replayed


def test_twenty_at_once_with_one_key_are_one_batch(install: Install) -> None:
    yard = install(add)

    async def all_at_once() -> list[SubmittedBatch]:
        made = await asyncio.gather(
            *(
                yard.services.batches.submit(
                    adding(1, 2, 3), principal=Somebody(), trace=new_trace(), idempotency_key="k"
                )
                for _ in range(20)
            )
        )
        await yard.services.outbox.close()
        return made

    made = yard.run(all_at_once())
    assert len({tuple(one.task_ids) for one in made}) == len({one.batch_id for one in made}) == 1
    assert sum(not one.replayed for one in made) == 1
    assert count(yard, "task_runs") == 3


# Unique runs.


def test_equal_items_are_one_run(install: Install) -> None:
    yard = install(add, unique)
    before = yard.submit("test.unique", {"a": 1}).task_id
    batch = submit(yard, [*unique_ones(2, 1, 2), *adding(9)])
    two, one, two_again, nine = batch.task_ids
    assert one == before
    assert two == two_again
    assert batch.deduplicated == 2
    assert count(yard, "task_runs") == 3
    assert yard.events(two) == [(None, "PENDING")]
    state = yard.run(yard.services.batches.get(batch.batch_id, Somebody()))
    assert (state.total, state.deduplicated, state.counts[Status.PENDING]) == (4, 2, 2)
    assert [wakeup.run_id for wakeup in yard.transport.sent] == [before, two, nine]


def test_keys_whose_time_is_over_are_free(install: Install) -> None:
    yard = install(unique)
    first = submit(yard, unique_ones(1, 2))
    yard.deliver(first.task_ids[0])
    yard.sql(
        "UPDATE task_runs SET created_at = :then",
        then=LONG_AGO[yard.is_sqlite],
    )
    second = submit(yard, unique_ones(1, 2))
    assert second.task_ids[0] != first.task_ids[0]
    assert second.task_ids[1] == first.task_ids[1]


def test_batches_and_single_requests_at_once_make_one_run_each(install: Install) -> None:
    yard = install(unique)

    async def all_at_once() -> list[str]:
        batches = [
            yard.services.batches.submit(
                unique_ones(*(range(30) if number % 2 else reversed(range(30)))),
                principal=Somebody(),
                trace=new_trace(),
            )
            for number in range(6)
        ]
        singles = [
            yard.services.submission.submit(wish, principal=Somebody(), trace=new_trace())
            for wish in unique_ones(*range(30))
        ]
        made, _ = await asyncio.gather(asyncio.gather(*batches), asyncio.gather(*singles))
        await yard.services.outbox.close()
        return [run_id for batch in made for run_id in batch.task_ids]

    assert len(set(yard.run(all_at_once()))) == count(yard, "task_runs") == 30


# Looking and cancelling.


def test_a_batch_is_its_tenants(install: Install) -> None:
    yard = install(add)
    batch = submit(yard, adding(1), caller=Somebody(tenant="t1"))
    batches = yard.services.batches
    assert yard.run(batches.get(batch.batch_id, Somebody(tenant="t1"))).total == 1
    for stranger in (Somebody(), Somebody(tenant="t2")):
        with pytest.raises(BatchNotFound):
            yard.run(batches.get(batch.batch_id, stranger))
        with pytest.raises(BatchNotFound):
            yard.run(batches.cancel(batch.batch_id, stranger))
    for wrong in ("x", new_id()):
        with pytest.raises(BatchNotFound):
            yard.run(batches.get(wrong, Somebody()))


def test_a_batch_is_a_filter_of_the_list(install: Install) -> None:
    yard = install(add)
    submit(yard, adding(1))
    batch = submit(yard, adding(1, 2))
    page = yard.run(
        yard.services.runs.list(RunFilters(batch_id=batch.batch_id), 10, None, Somebody())
    )
    assert {row.id for row in page.items} == set(batch.task_ids)


def test_cancelling_takes_what_waits_and_asks_what_runs(install: Install) -> None:
    yard = install(add)
    other = submit(yard, adding(9))
    batch = submit(yard, [*adding(*range(600)), *adding(1, options=RunOptions(delay_seconds=60))])
    done, running, *_, scheduled = batch.task_ids
    yard.deliver(done)
    yard.sql("UPDATE task_runs SET status = 'RUNNING' WHERE id = :id", id=_id(yard, running))
    state = yard.run(yard.services.batches.cancel(batch.batch_id, Somebody(id="boss")))
    counts = {status: number for status, number in state.counts.items() if number}
    assert counts == {Status.SUCCEEDED: 1, Status.RUNNING: 1, Status.CANCELLED: 599}
    assert yard.row(running).cancel_requested_at is not None
    assert yard.row(scheduled).finished_at is not None
    assert yard.events(scheduled) == [(None, "SCHEDULED"), ("SCHEDULED", "CANCELLED")]
    assert yard.row(other.task_ids[0]).status == "PENDING"
    again = yard.run(yard.services.batches.cancel(batch.batch_id, Somebody()))
    assert again.counts == state.counts


def _id(yard: Installation, run_id: str) -> Any:
    import uuid

    return run_id if yard.is_sqlite else uuid.UUID(run_id)


def test_a_batch_is_forgotten_after_its_last_run(install: Install) -> None:
    yard = install(add)
    gone, left, young = (submit(yard, adding(1)) for _ in range(3))
    for batch in (gone, left):
        yard.sql(
            "UPDATE batches SET created_at = :then WHERE id = :id",
            then=LONG_AGO[yard.is_sqlite],
            id=_id(yard, batch.batch_id),
        )
    for batch in (gone, young):
        yard.sql("DELETE FROM task_runs WHERE batch_id = :id", id=_id(yard, batch.batch_id))
    yard.run(forget_batches(yard.services.databases, 30, 10))
    kept = {str(row.id) for row in yard.sql("SELECT id FROM batches")}
    assert kept == {left.batch_id, young.batch_id}


# The outbox.


def wakeup_for(yard: Installation) -> Wakeup:
    request = adding(1)[0]
    return yard.services.new_run(request, created_by="x", tenant=None, trace_id="0" * 32).wakeup(0)


def test_what_the_broker_does_not_take_stays_for_the_sweeper(install: Install) -> None:
    yard = install(add)
    yard.transport.confirms = False
    batch = submit(yard, adding(1, 2))
    assert all(yard.row(run_id).published_at is None for run_id in batch.task_ids)


class GatedTransport(MemoryTransport):
    """Holds the first batch of messages back until the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()

    async def send(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        self.reached.set()
        await self.gate.wait()
        return await super().send(wakeups)


def test_single_runs_go_out_before_the_rest_of_a_batch(install: Install) -> None:
    yard = install(add)
    transport = GatedTransport()
    outbox = Outbox(yard.services.databases, transport)
    (single, *many) = (wakeup_for(yard) for _ in range(2001))

    async def both() -> None:
        outbox.offer_many(many)
        await transport.reached.wait()
        outbox.offer([single])
        transport.gate.set()
        await outbox.close()

    yard.run(both())
    assert set(transport.sent) == {single, *many}
    assert transport.sent.index(single) < 1000


@pytest.mark.parametrize("bulk", [True, False])
def test_a_full_outbox_leaves_the_rest_to_the_sweeper(install: Install, bulk: bool) -> None:
    yard = install(add)
    outbox = Outbox(yard.services.databases, yard.transport, most_waiting=3)
    wakeups = [wakeup_for(yard) for _ in range(5)]

    async def offer() -> None:
        (outbox.offer_many if bulk else outbox.offer)(wakeups)
        await outbox.close()

    yard.run(offer())
    assert yard.transport.sent == wakeups[:3]
