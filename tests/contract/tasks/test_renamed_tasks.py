"""A task under a new name and version: what was accepted under the old ones goes on."""

from collections.abc import Callable
from typing import Any

from app import Fatal, TaskContext, register_task
from app.common.tracing import new_trace
from app.tasks.execution import Disposition
from app.tasks.submission import Submitted
from tests.harness import Installation, Somebody

Install = Callable[..., Installation]


@register_task("test.old_name", version="1")
async def before(number: int) -> int:
    """Return the number."""
    return number


@register_task(
    "test.new_name",
    version="2",
    aliases=("test.old_name", "test.older_name"),
    timeout_seconds=900,
)
async def after(ctx: TaskContext, number: int) -> list[Any]:
    """Return the number and the version under which the run was accepted; refuse negatives."""
    if number < 0:
        raise Fatal("negative")
    return [number, ctx.version]


def rerun(yard: Installation, run_id: str, **more: Any) -> Submitted:
    async def accept() -> Submitted:
        made = await yard.services.reruns.rerun(run_id, Somebody(), trace=new_trace(), **more)
        await yard.services.outbox.close()
        return made

    return yard.run(accept())


def test_a_queued_run_of_the_old_name_runs_on_the_new_code(install: Install) -> None:
    run_id = install(before).submit("test.old_name", {"number": 1}).task_id
    yard = install(after)
    assert yard.deliver(run_id) is Disposition.DONE
    row = yard.row(run_id)
    assert (row.status, row.result) == ("SUCCEEDED", [1, "1"])
    assert (row.task, row.task_version) == ("test.old_name", "1")


def test_requests_under_every_old_name_are_runs_of_the_new_one(install: Install) -> None:
    yard = install(after)
    for name in ("test.new_name", "test.old_name", "test.older_name"):
        row = yard.row(yard.submit(name, {"number": 1}).task_id)
        assert (row.task, row.function, row.task_version) == ("test.new_name", "test.new_name", "2")


def test_a_run_of_the_old_name_runs_again(install: Install) -> None:
    run_id = install(before).submit("test.old_name", {"number": -1}).task_id
    yard = install(after)
    yard.deliver(run_id)
    again = yard.row(rerun(yard, run_id, params={"number": 2}).task_id)
    assert (again.task, again.task_version, again.replay_of) == ("test.new_name", "2", run_id)
    letter = yard.run(yard.services.runs.dead_letter(run_id))
    assert letter is not None
    replay = yard.run(
        yard.services.dead_letters.replay(
            letter.id, Somebody(), trace=new_trace(), params={"number": 3}
        )
    )
    yard.deliver(replay.task_id)
    assert yard.row(replay.task_id).result == [3, "2"]


def test_a_rerun_that_was_accepted_stays_so_although_the_time_limit_was_raised(
    install: Install,
) -> None:
    old = install(before)
    run_id = old.submit("test.old_name", {"number": 1}).task_id
    made = rerun(old, run_id, idempotency_key="k")
    yard = install(after)
    again = rerun(yard, run_id, idempotency_key="k")
    assert again.replayed
    assert again.task_id == made.task_id
    # A run again now gets the longer limit.
    assert yard.row(rerun(yard, run_id).task_id).options["timeout_seconds"] == 900


def test_a_derived_task_of_the_old_name_goes_on(install: Install) -> None:
    old = install(before)
    old.run(
        old.services.catalogue.register(
            name="test.five", base_task="test.old_name", created_by="x", params={"number": 5}
        )
    )
    queued = old.submit("test.five").task_id
    yard = install(after)
    fresh = yard.submit("test.five").task_id
    for run_id in (queued, fresh):
        yard.deliver(run_id)
    assert yard.row(queued).result == [5, "1"]
    assert yard.row(fresh).result == [5, "2"]


def test_a_worker_listens_to_every_name(install: Install) -> None:
    names = install(after).services.registry.names()
    assert names == ["test.new_name", "test.old_name", "test.older_name"]
