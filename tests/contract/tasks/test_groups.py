"""Runs that are claimed and recorded together: each is as if it were alone."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from app import Fatal, TaskContext, register_task
from app.common import failpoints
from app.common.ids import new_id
from app.common.metrics import STALE_WRITES
from app.config.settings import APPLICATION_BIND
from app.db.errors import DatabaseUnavailable
from app.tasks.execution import Disposition, Executor
from app.tasks.hot_runs import HotRuns, Success
from app.tasks.transport import Wakeup
from app.tasks.unclaimed import Unclaimed
from tests.harness import Installation

Install = Callable[..., Installation]
DONE, AGAIN, UNKNOWN = Disposition.DONE, Disposition.AGAIN, Disposition.UNKNOWN
LEASE_SECONDS = 15.0
LITTLE, MUCH = 0.05, 3600.0
ALREADY_OVER = -1.0


@register_task("test.value")
def value(number: int) -> Any:
    """Return one of the values that are hard to keep."""
    return [None, 2**63 - 1, 'ä\u2028"\\', [1, {"a": None}], "", False][number]


@register_task("test.fail", max_attempts=1)
async def fail() -> None:
    """Fail for good."""
    raise Fatal("no")


@register_task("test.parent")
async def parent(ctx: TaskContext) -> str:
    """Submit a child."""
    return ctx.submit("test.value", {"number": 0})


@register_task("test.slow")
def slow() -> None:
    """Take longer than the others have little patience."""
    time.sleep(2 * LITTLE)


@register_task("test.limited", max_concurrency=1)
async def limited() -> str:
    """Run alone."""
    return "alone"


@pytest.fixture
def yard(install: Install) -> Installation:
    return install(value, fail, parent, slow, limited)


@pytest.fixture
def hot(yard: Installation) -> Iterator[HotRuns]:
    runs = HotRuns(yard.services.databases)
    yield runs
    runs.close()


def submit(yard: Installation, *tasks: str) -> list[str]:
    return [
        yard.submit(task, {"number": 1} if task == "test.value" else {}).task_id for task in tasks
    ]


def deliver(
    yard: Installation, run_ids: list[str], patience: float = MUCH, **more: Any
) -> list[Disposition]:
    executor = Executor(yard.services, worker="worker-1", patience_seconds=patience, **more)
    return executor.execute_many(yard.runner, run_ids)


def statuses(yard: Installation, run_ids: list[str]) -> list[str]:
    return [yard.row(run_id).status for run_id in run_ids]


def test_every_result_is_kept_as_it_is(yard: Installation) -> None:
    ids = [yard.submit("test.value", {"number": number}).task_id for number in range(6)]
    assert deliver(yard, ids) == [DONE] * 6
    assert [yard.row(run_id).result for run_id in ids] == [value(number) for number in range(6)]
    for run_id in ids:
        row = yard.row(run_id)
        assert (row.status, row.attempt, row.fence, row.lease_owner) == ("SUCCEEDED", 1, 1, None)
        assert yard.events(run_id) == [
            (None, "PENDING"),
            ("PENDING", "RUNNING"),
            ("RUNNING", "SUCCEEDED"),
        ]


def test_each_ends_in_its_own_way(yard: Installation) -> None:
    tasks = ("test.value", "test.fail", "test.parent", "test.limited", "test.value")
    ids = submit(yard, *tasks)
    assert deliver(yard, ids) == [DONE] * 5
    assert statuses(yard, ids) == ["SUCCEEDED", "FAILED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]
    assert yard.row(yard.row(ids[2]).result).parent_id == ids[2]
    assert yard.row(ids[1]).dead_letter_id is not None


def test_doubled_unknown_and_wrong_messages_stand_beside_others(yard: Installation) -> None:
    (run_id,) = submit(yard, "test.value")
    answers = deliver(yard, [run_id, new_id(), "garbage", run_id])
    assert answers == [DONE, UNKNOWN, UNKNOWN, DONE]
    assert len(yard.events(run_id)) == 3
    assert deliver(yard, [run_id]) == [DONE]
    assert len(yard.events(run_id)) == 3


def test_what_would_wait_behind_a_slow_one_is_given_back(yard: Installation) -> None:
    slow_one, *rest = submit(yard, "test.slow", "test.value", "test.value")
    assert deliver(yard, [slow_one, *rest], LITTLE) == [DONE, AGAIN, AGAIN]
    assert statuses(yard, [slow_one, *rest]) == ["SUCCEEDED", "PENDING", "PENDING"]
    assert [yard.row(run_id).attempt for run_id in rest] == [0, 0]
    assert deliver(yard, rest) == [DONE, DONE]
    assert [(yard.row(run_id).attempt, yard.row(run_id).fence) for run_id in rest] == [(1, 3)] * 2
    assert [to for _, to in yard.events(rest[0])] == [
        "PENDING", "RUNNING", "PENDING", "RUNNING", "SUCCEEDED",
    ]  # fmt: skip


def test_a_run_under_a_limit_does_not_begin_late_either(yard: Installation) -> None:
    slow_one, limited = submit(yard, "test.slow", "test.limited")
    assert deliver(yard, [slow_one, limited], LITTLE) == [DONE, AGAIN]
    assert (yard.row(limited).status, yard.row(limited).attempt) == ("PENDING", 0)
    assert deliver(yard, [limited]) == [DONE]
    assert (yard.row(limited).status, yard.row(limited).attempt) == ("SUCCEEDED", 1)


def test_a_run_alone_begins_however_late_its_claim_came(yard: Installation) -> None:
    (run_id,) = submit(yard, "test.value")
    assert deliver(yard, [run_id], ALREADY_OVER) == [DONE]
    assert statuses(yard, [run_id]) == ["SUCCEEDED"]


def test_a_run_that_was_taken_away_meanwhile_is_not_recorded(yard: Installation) -> None:
    taken: list[str] = []

    @register_task("test.overtaken")
    def overtaken() -> str:
        """Lose the lease of the run before."""
        yard.lose_lease(taken[0])
        assert yard.other_worker().execute(yard.runner, taken[0]) is DONE
        return "late"

    spec = yard.services.registry
    spec._add(_spec(overtaken))  # noqa: SLF001 - a task that knows its own yard
    taken += submit(yard, "test.value", "test.overtaken")
    before = STALE_WRITES.labels(write="succeed")._value.get()  # noqa: SLF001 - the library has no other way
    assert deliver(yard, taken) == [DONE, DONE]
    assert statuses(yard, taken) == ["SUCCEEDED", "SUCCEEDED"]
    assert (yard.row(taken[0]).fence, yard.row(taken[0]).attempt) == (2, 2)
    assert STALE_WRITES.labels(write="succeed")._value.get() == before + 1  # noqa: SLF001 - as above


def _spec(function: Callable[..., Any]) -> Any:
    from app.tasks.registry import spec_of

    return spec_of(function, "test")


@pytest.mark.parametrize("point", ["outcome.before_commit", "outcome.after_commit"])
def test_an_error_around_the_common_commit_costs_no_attempt(
    yard: Installation, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    ids = submit(yard, "test.value", "test.value")
    monkeypatch.setattr(failpoints, "_points", failpoints.Failpoints(f"{point}=raise:1"))
    assert deliver(yard, ids) == [DONE, DONE]
    assert statuses(yard, ids) == ["SUCCEEDED", "SUCCEEDED"]
    assert [yard.row(run_id).attempt for run_id in ids] == [1, 1]
    assert len(yard.events(ids[0])) == 3


def test_each_run_is_told_before_it_begins(yard: Installation) -> None:
    begun: list[str] = []
    ids = submit(yard, "test.slow", "test.value")
    assert deliver(yard, ids, LITTLE, begins=begun.append) == [DONE, AGAIN]
    assert begun == ids[:1]


def test_a_process_that_is_told_to_end_records_what_has_ended(yard: Installation) -> None:
    class PoolEnds(SystemExit):
        """What a pool raises in a process that has to end."""

    @register_task("test.ending")
    def ending() -> None:
        """Be told to end."""
        raise PoolEnds

    yard.services.registry._add(_spec(ending))  # noqa: SLF001 - a task of this test
    ids = submit(yard, "test.value", "test.ending", "test.value")
    with pytest.raises(PoolEnds):
        deliver(yard, ids)
    assert statuses(yard, ids) == ["SUCCEEDED", "RUNNING", "RUNNING"]


def test_claims_are_guarded_one_by_one(yard: Installation, hot: HotRuns) -> None:
    fresh, running, cancelled, held = submit(
        yard, "test.value", "test.value", "test.value", "test.limited"
    )
    assert [row.id for row in hot.claim([running], "w:1", LEASE_SECONDS)] == [running]
    yard.run(yard.services.runs.cancel(cancelled, _somebody()))
    late = yard.submit("test.value", {"number": 1}, options={"delay_seconds": 60}).task_id
    asked = [late, held, cancelled, running, fresh]
    (claimed,) = hot.claim(asked, "w:2", LEASE_SECONDS)
    assert (claimed.id, claimed.status, claimed.attempt, claimed.fence) == (fresh, "RUNNING", 1, 1)
    assert (claimed.params, claimed.function, claimed.queue) == (
        {"number": 1},
        "test.value",
        "default",
    )
    assert yard.row(fresh).lease_owner == "w:2"
    assert yard.row(running).lease_owner == "w:1"


def test_success_needs_the_fence_and_release_the_owner(yard: Installation, hot: HotRuns) -> None:
    ids = sorted(submit(yard, "test.value", "test.value", "test.value"))
    assert len(hot.claim(ids, "w:1", LEASE_SECONDS)) == 3
    yard.lose_lease(ids[1])
    assert len(hot.claim([ids[1]], "w:2", LEASE_SECONDS)) == 1
    told = [Success(run_id, 1, {"n": 1}) for run_id in reversed(ids[:2])]
    assert hot.succeed(told, "w") == {ids[0]}
    assert hot.release(ids, "w:1") == {ids[2]}
    assert statuses(yard, ids) == ["SUCCEEDED", "RUNNING", "PENDING"]
    assert yard.row(ids[0]).result == {"n": 1}
    assert hot.succeed([Success(ids[1], 2, None, "results/1.json")], "w") == {ids[1]}
    assert (yard.row(ids[1]).result, yard.row(ids[1]).result_ref) == (None, "results/1.json")


def _somebody() -> Any:
    from tests.harness import Somebody

    return Somebody()


def test_a_run_that_became_due_behind_its_claim_is_sent_again(yard: Installation) -> None:
    """The claim came a moment too early; when its row is looked at it is due, and its message was
    the only one.
    """
    (run_id,) = submit(yard, "test.value")
    yard.transport.sent.clear()
    unclaimed = Unclaimed(yard.services)

    def judge() -> Any:
        (row,) = yard.services.hot_runs.look([run_id])
        return yard.run(unclaimed.judge(row, "worker-1:1"))

    assert judge() == DONE
    assert [wakeup.run_id for wakeup in yard.transport.sent] == [run_id]
    assert yard.deliver(run_id) == DONE
    # What has ended stays ended: this message is a double.
    yard.transport.sent.clear()
    assert judge() == DONE
    assert yard.transport.sent == []
    assert yard.row(run_id).attempt == 1


def test_messages_that_come_too_early_go_round_again_together(
    yard: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = [
        yard.submit("test.value", {"number": 0}, options={"delay_seconds": seconds}).task_id
        for seconds in (30.0, 60.0, 90.0)
    ]
    (due,) = submit(yard, "test.value")
    batches: list[dict[str, float]] = []

    async def send(wakeups: Sequence[Wakeup]) -> frozenset[str]:
        batches.append({wakeup.run_id: wakeup.delay_seconds for wakeup in wakeups})
        return frozenset(later[:2])  # The broker has not confirmed the third.

    monkeypatch.setattr(yard.transport, "send", send)
    answers = deliver(yard, [later[0], due, new_id(), *later[1:]], patience=ALREADY_OVER)
    # Nobody's patience is needed for what does not begin; that which is due has to come again.
    assert answers == [DONE, AGAIN, UNKNOWN, DONE, DONE]
    (batch,) = batches
    assert list(batch) == later
    assert all(
        0 < left - wait <= 30 for left, wait in zip(batch.values(), (0, 30, 60), strict=True)
    )
    assert statuses(yard, later) == ["SCHEDULED"] * 3
    # The sweeper sends what the broker did not take.
    assert [yard.row(run_id).published_at is None for run_id in later] == [False, False, True]


def test_rows_that_cannot_be_read_leave_the_claimed_ones_alone(
    yard: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = yard.submit("test.value", {"number": 0}, options={"delay_seconds": 30.0}).task_id
    (due,) = submit(yard, "test.value")

    def look(_run_ids: Sequence[str]) -> Sequence[Any]:
        raise DatabaseUnavailable(APPLICATION_BIND)

    monkeypatch.setattr(yard.services.hot_runs, "look", look)
    assert deliver(yard, [early, due]) == [Disposition.LATER, DONE]
    assert statuses(yard, [early, due]) == ["SCHEDULED", "SUCCEEDED"]
