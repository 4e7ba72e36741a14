"""Tasks that are unique for a time: one run of equal ones, whoever asks and how often at once."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app import Fatal, TaskContext, register_task
from app.common.tracing import new_trace
from app.tasks.errors import IdempotencyKeyReused
from app.tasks.requests import RunRequest
from app.tasks.submission import Submitted
from tests.harness import Installation, Somebody
from tests.harness import _long_ago as long_ago

Install = Callable[..., Installation]


@register_task("test.unique", unique_for_seconds=3600, max_attempts=1)
async def unique(number: int, fail: bool = False, more: dict[str, Any] | None = None) -> int:
    """Return the number, or fail."""
    if fail:
        raise Fatal("as it was told")
    return number


@register_task("test.other_unique", unique_for_seconds=3600)
async def other_unique(number: int) -> int:
    """Return the number."""
    return number


@register_task("test.plain")
async def plain(number: int) -> int:
    """Return the number."""
    return number


@register_task("test.parent")
async def parent(ctx: TaskContext, numbers: list[int]) -> list[str]:
    """Submit a child for each number and return their ids."""
    return [ctx.submit("test.unique", {"number": number}) for number in numbers]


def runs_of(yard: Installation) -> int:
    return len(yard.sql("SELECT id FROM task_runs"))


def make_old(yard: Installation, run_id: str) -> None:
    yard.sql("UPDATE task_runs SET created_at = :then", then=_then(yard))
    assert yard.row(run_id).created_at.year == 2001


def _then(yard: Installation) -> Any:
    return "2001-01-01 00:00:00.000000" if yard.is_sqlite else long_ago()


def test_an_equal_run_stands_for_the_second_one(install: Install) -> None:
    yard = install(unique)
    first = yard.submit("test.unique", {"number": 1, "more": {"a": 1, "b": 2}})
    again = yard.submit("test.unique", {"more": {"b": 2, "a": 1}, "number": 1})
    assert not first.deduplicated
    assert again.deduplicated
    assert not again.replayed
    assert (again.task_id, again.created_at) == (first.task_id, first.created_at)
    assert runs_of(yard) == len(yard.transport.sent) == 1
    assert yard.events(first.task_id) == [(None, "PENDING")]


def test_other_parameters_tasks_and_tenants_are_not_equal(install: Install) -> None:
    yard = install(unique, other_unique)
    made = {
        yard.submit("test.unique", {"number": 1}).task_id,
        yard.submit("test.unique", {"number": 2}).task_id,
        yard.submit("test.other_unique", {"number": 1}).task_id,
        yard.submit("test.unique", {"number": 1}, caller=Somebody(tenant="t1")).task_id,
        yard.submit("test.unique", {"number": 1}, caller=Somebody(tenant="t2")).task_id,
    }
    assert len(made) == 5
    # Whoever of the tenant asks, and however the run is to be run, it is the same work.
    again = yard.submit("test.unique", {"number": 1}, caller=Somebody(id="other"))
    assert again.deduplicated
    assert yard.submit("test.unique", {"number": 1}, options={"priority": 9}).deduplicated


def test_a_task_that_is_not_unique_runs_as_often_as_it_is_asked_for(install: Install) -> None:
    yard = install(plain)
    assert yard.submit("test.plain", {"number": 1}) != yard.submit("test.plain", {"number": 1})
    assert runs_of(yard) == 2


def test_a_run_that_succeeded_stands_until_its_time_is_over(install: Install) -> None:
    yard = install(unique)
    first = yard.submit("test.unique", {"number": 1})
    yard.deliver(first.task_id)
    again = yard.submit("test.unique", {"number": 1})
    assert (again.task_id, again.status) == (first.task_id, "SUCCEEDED")
    make_old(yard, first.task_id)
    second = yard.submit("test.unique", {"number": 1})
    assert not second.deduplicated
    assert second.task_id != first.task_id
    assert yard.submit("test.unique", {"number": 1}).task_id == second.task_id


def test_a_run_that_lives_stands_however_old_it_is(install: Install) -> None:
    yard = install(unique)
    first = yard.submit("test.unique", {"number": 1})
    make_old(yard, first.task_id)
    assert yard.submit("test.unique", {"number": 1}).task_id == first.task_id


def test_a_run_that_failed_stands_in_nobodys_way(install: Install) -> None:
    yard = install(unique)
    params = {"number": 1, "fail": True}
    first = yard.submit("test.unique", params)
    yard.deliver(first.task_id)
    assert yard.row(first.task_id).status == "FAILED"
    assert not yard.submit("test.unique", params).deduplicated


def test_a_cancelled_run_stands_in_nobodys_way(install: Install) -> None:
    yard = install(unique)
    first = yard.submit("test.unique", {"number": 1})
    yard.run(yard.services.runs.cancel(first.task_id, Somebody()))
    assert not yard.submit("test.unique", {"number": 1}).deduplicated


def test_the_answer_to_a_key_stays_the_same(install: Install) -> None:
    yard = install(unique)
    first = yard.submit("test.unique", {"number": 1})
    stood_for = yard.submit("test.unique", {"number": 1}, idempotency_key="k")
    assert (stood_for.deduplicated, stood_for.status) == (True, "PENDING")
    yard.deliver(first.task_id)
    make_old(yard, first.task_id)
    again = yard.submit("test.unique", {"number": 1}, idempotency_key="k")
    assert again.replayed
    assert (again.deduplicated, again.status, again.task_id) == (True, "PENDING", first.task_id)
    with pytest.raises(IdempotencyKeyReused):
        yard.submit("test.unique", {"number": 2}, idempotency_key="k")
    # A key whose run was made is replayed as made.
    yard.submit("test.unique", {"number": 3}, idempotency_key="k3")
    assert not yard.submit("test.unique", {"number": 3}, idempotency_key="k3").deduplicated


@pytest.mark.parametrize("before", ["nothing", "succeeded long ago", "failed"])
def test_fifty_at_once_make_one_run(install: Install, before: str) -> None:
    yard = install(unique)
    params = {"number": 1, "fail": before == "failed"}
    if before != "nothing":
        first = yard.submit("test.unique", params)
        yard.deliver(first.task_id)
        make_old(yard, first.task_id)

    async def all_at_once() -> list[Submitted]:
        made = await asyncio.gather(
            *(
                yard.services.submission.submit(
                    RunRequest(task="test.unique", params=params),
                    principal=Somebody(id=f"client-{number}"),
                    trace=new_trace(),
                )
                for number in range(50)
            )
        )
        await yard.services.outbox.close()
        return made

    made = yard.run(all_at_once())
    assert len({one.task_id for one in made}) == 1
    assert sum(not one.deduplicated for one in made) == 1
    assert runs_of(yard) == (1 if before == "nothing" else 2)
    assert len(yard.events(made[0].task_id)) == 1


def test_children_are_unique_as_well(install: Install) -> None:
    yard = install(parent, unique)
    first = yard.submit("test.unique", {"number": 1})
    run_id = yard.submit("test.parent", {"numbers": [1, 2, 2]}).task_id
    yard.deliver(run_id)
    ids = yard.row(run_id).result
    assert ids[0] == first.task_id
    assert ids[1] == ids[2]
    assert yard.row(ids[1]).parent_id == run_id
    assert runs_of(yard) == 3


def test_a_child_whose_equal_came_first_by_a_hair_has_a_row_that_says_so(install: Install) -> None:
    yard = install(parent, unique)
    submit = TaskContext.submit

    def submit_late(ctx: TaskContext, task: str, params: dict[str, Any]) -> str:
        """Let somebody else's equal run commit between the look and the outcome."""
        child_id = submit(ctx, task, params)
        rival = Installation(yard.services.settings, (unique,))
        twins.append(rival.submit(task, params).task_id)
        rival.close()
        return child_id

    twins: list[str] = []

    @register_task("test.late_parent")
    def late_parent(ctx: TaskContext) -> str:
        """Submit a child, late."""
        return submit_late(ctx, "test.unique", {"number": 7})

    yard = install(late_parent, unique)
    run_id = yard.submit("test.late_parent").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).status == "SUCCEEDED"
    child = yard.row(yard.row(run_id).result)
    assert (child.status, child.error["type"]) == ("CANCELLED", "DuplicateRun")
    assert twins[0] in child.error["message"]
    assert yard.events(child.id) == [(None, "CANCELLED")]
    yard.deliver(child.id)
    assert yard.row(child.id).attempt == 0


def test_a_run_that_is_gone_frees_its_key(install: Install) -> None:
    yard = install(unique)
    first = yard.submit("test.unique", {"number": 1})
    yard.sql("DELETE FROM task_runs")
    second = yard.submit("test.unique", {"number": 1})
    assert second.task_id != first.task_id
    assert not second.deduplicated
