"""The life of a run, statement by statement, on both application databases."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from app import Fatal, Retry, StoredResult, TaskContext, register_task
from app.common.ids import new_id
from app.common.logging import configure_logging
from app.tasks.errors import RunHasEnded, RunNotFound
from app.tasks.execution import Disposition
from app.tasks.heartbeat import Beat, beat_leases
from app.tasks.sweeper import Sweeper
from tests.harness import Installation, Somebody

Install = Callable[..., Installation]


@register_task("test.double")
async def double(number: int) -> int:
    """Double a number."""
    return number * 2


@register_task("test.double_blocking")
def double_blocking(number: int) -> int:
    """Double a number without a loop."""
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    return number * 2


@register_task("test.fail_until", max_attempts=3, backoff_seconds=4, jitter=0)
async def fail_until(ctx: TaskContext, attempt: int) -> int:
    """Fail until the given attempt."""
    if ctx.attempt < attempt:
        message = "not yet"
        raise ValueError(message)
    return ctx.attempt


@register_task("test.fatal", max_attempts=9)
async def fatal() -> None:
    """Fail for good."""
    message = "postgresql://user:hunter2@host/db is wrong"
    raise Fatal(message)


@register_task("test.retry_after", max_attempts=2)
async def retry_after() -> None:
    """Ask for another attempt in 7 seconds."""
    raise Retry(after=7)


@register_task("test.knowing")
def knowing(ctx: TaskContext) -> list[str]:
    """Submit a child whose result is known, and one that has to run."""
    result = StoredResult(key="documents/1.json")
    return [
        ctx.submit_known("test.double", {"number": 1}, result=result),
        ctx.submit("test.double", {"number": 2}),
    ]


@register_task("test.remember")
def remember(ctx: TaskContext) -> list[Any]:
    """Use the cache without awaiting it."""
    cache = ctx.cache
    cache.set("a", 1)
    seen = [cache.get("a"), cache.get_many(["a", "b"]), cache.incr("count")]
    return [*seen, cache.get_or_load("c", lambda: "loaded"), cache.exists("c")]


@register_task("test.discard", max_attempts=1, on_failure="discard")
async def discard() -> None:
    """Fail without a dead letter."""
    raise ValueError


@register_task("test.parent")
async def parent(ctx: TaskContext, children: int, fails: bool = False) -> list[str]:
    """Submit children."""
    ids = [ctx.submit("test.double", {"number": number}) for number in range(children)]
    if fails:
        message = "after the children"
        raise Fatal(message)
    return ids


@register_task("test.slow", timeout_seconds=0.2, max_attempts=1)
async def slow() -> None:
    """Run over the time limit."""
    await asyncio.sleep(30)


@register_task("test.large")
async def large(size: int) -> str:
    """Return much."""
    return "x" * size


@register_task("test.stored")
async def stored(ctx: TaskContext) -> StoredResult:
    """Return a document that lies on the storage."""
    await ctx.storage.put("documents/one.json", b'{"a": 1}')
    return StoredResult(key="documents/one.json")


@register_task("test.wrong_result")
async def wrong_result() -> int:
    """Return what the annotation does not promise."""
    return "many"  # type: ignore[return-value] # the fault that is tested


@register_task("test.exit", max_attempts=1)
def leave() -> None:
    """Call sys.exit."""
    raise SystemExit(3)


@register_task("test.logs")
async def logs(ctx: TaskContext) -> None:
    """Write log lines and progress."""
    ctx.log.info("first", password="hunter2", count=1)
    await ctx.progress(1, 2, "half")
    ctx.log.warning("second")


def test_a_run_goes_from_accepted_to_its_result(install: Install) -> None:
    yard = install(double)
    run_id = yard.submit("test.double", {"number": 21}).task_id
    assert [wakeup.run_id for wakeup in yard.transport.sent] == [run_id]
    assert yard.row(run_id).published_at is not None

    assert yard.deliver(run_id) is Disposition.DONE

    row = yard.row(run_id)
    assert (row.status, row.result, row.attempt, row.fence) == ("SUCCEEDED", 42, 1, 1)
    assert row.lease_owner is None
    assert row.created_at <= row.started_at <= row.finished_at
    assert yard.events(run_id) == [
        (None, "PENDING"),
        ("PENDING", "RUNNING"),
        ("RUNNING", "SUCCEEDED"),
    ]


def test_a_def_function_runs_outside_of_any_loop(install: Install) -> None:
    yard = install(double_blocking)
    run_id = yard.submit("test.double_blocking", {"number": 2}).task_id
    yard.deliver(run_id)
    assert (yard.row(run_id).status, yard.row(run_id).result) == ("SUCCEEDED", 4)


def test_a_message_that_comes_again_starts_nothing(install: Install) -> None:
    yard = install(double)
    run_id = yard.submit("test.double", {"number": 1}).task_id
    for _ in range(5):
        assert yard.deliver(run_id) is Disposition.DONE
    assert yard.row(run_id).attempt == 1


def test_a_message_of_an_unknown_run_is_refused(install: Install) -> None:
    assert install(double).deliver(new_id()) is Disposition.UNKNOWN


def test_a_failed_attempt_waits_and_is_tried_again(install: Install) -> None:
    yard = install(fail_until)
    run_id = yard.submit("test.fail_until", {"attempt": 3}).task_id
    yard.deliver(run_id)
    row = yard.row(run_id)
    assert row.status == "RETRYING"
    assert row.error == {"type": "ValueError", "message": "not yet", "retryable": True}
    assert yard.transport.sent[-1].delay_seconds == 4
    assert row.published_at is not None
    # Too early: the message goes round again for the rest of the delay, and nothing starts.
    yard.deliver(run_id)
    assert yard.row(run_id).attempt == 1
    assert 0 < yard.transport.sent[-1].delay_seconds <= 4

    for _ in range(2):
        make_due(yard, run_id)
        yard.deliver(run_id)
    row = yard.row(run_id)
    assert (row.status, row.result, row.attempt, row.error) == ("SUCCEEDED", 3, 3, None)


def test_the_last_attempt_leaves_a_dead_letter(install: Install) -> None:
    yard = install(fail_until)
    run_id = yard.submit("test.fail_until", {"attempt": 9}, options={"max_attempts": 2}).task_id
    yard.deliver(run_id)
    make_due(yard, run_id)
    yard.deliver(run_id)
    row = yard.row(run_id)
    letter = yard.run(yard.services.runs.dead_letter(run_id))
    assert (row.status, row.attempt) == ("FAILED", 2)
    assert letter is not None
    assert letter.id == row.dead_letter_id
    assert (letter.error_type, letter.attempts, letter.origin) == ("ValueError", 2, "run")
    assert yard.transport.dead[0][0].run_id == run_id
    assert yard.transport.dead[0][1]["x-error-type"] == "ValueError"


def test_fatal_ends_at_once_and_hides_passwords(install: Install) -> None:
    yard = install(fatal)
    run_id = yard.submit("test.fatal").task_id
    yard.deliver(run_id)
    row = yard.row(run_id)
    assert (row.status, row.attempt) == ("FAILED", 1)
    assert row.error["retryable"] is False
    assert "hunter2" not in str(row.error)


def test_retry_says_when(install: Install) -> None:
    yard = install(retry_after)
    yard.deliver(yard.submit("test.retry_after").task_id)
    assert yard.transport.sent[-1].delay_seconds == 7


def test_discard_leaves_no_dead_letter(install: Install) -> None:
    yard = install(discard)
    run_id = yard.submit("test.discard").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).status == "FAILED"
    assert yard.row(run_id).dead_letter_id is None
    assert yard.transport.dead == []


def test_children_are_committed_with_the_outcome(install: Install) -> None:
    yard = install(parent, double)
    run_id = yard.submit("test.parent", {"children": 3}).task_id
    yard.deliver(run_id)
    children = yard.row(run_id).result
    assert [yard.row(child).parent_id for child in children] == [run_id] * 3
    assert yard.events(children[0]) == [(None, "PENDING")]
    assert {wakeup.run_id for wakeup in yard.transport.sent} == {run_id, *children}
    assert {yard.row(child).trace_id for child in children} == {yard.row(run_id).trace_id}


def test_a_child_with_a_known_result_has_ended_when_it_begins(install: Install) -> None:
    yard = install(knowing, double)
    run_id = yard.submit("test.knowing").task_id
    yard.deliver(run_id)
    known, started = yard.row(run_id).result
    row = yard.row(known)
    assert (row.status, row.result_ref, row.attempt, row.parent_id) == (
        *("SUCCEEDED", "documents/1.json", 0, run_id),
    )
    assert row.finished_at is not None
    assert row.params == {"number": 1}
    assert yard.events(known) == [(None, "SUCCEEDED")]
    # Nobody is sent a message for it, and one that comes all the same changes nothing.
    assert {wakeup.run_id for wakeup in yard.transport.sent} == {run_id, started}
    yard.deliver(known)
    assert yard.events(known) == [(None, "SUCCEEDED")]


def test_a_blocking_task_has_a_blocking_cache(install: Install) -> None:
    yard = install(remember)
    run_id = yard.submit("test.remember").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).result == [1, {"a": 1}, 1, "loaded", True]
    assert yard.run(yard.services.cache.namespace("test").get("a")) == 1


def test_a_failed_attempt_has_no_children(install: Install) -> None:
    yard = install(parent, double)
    run_id = yard.submit("test.parent", {"children": 3, "fails": True}).task_id
    yard.deliver(run_id)
    assert yard.row(run_id).status == "FAILED"
    assert len(yard.sql("SELECT id FROM task_runs")) == 1


def test_a_time_limit_ends_the_attempt(install: Install) -> None:
    yard = install(slow, double)
    run_id = yard.submit("test.slow").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).error["type"] == "TimeoutError"
    # Nothing of the attempt is left on the loop.
    assert asyncio.all_tasks(yard.runner.get_loop()) == set()


def test_a_large_result_goes_to_the_storage(install: Install) -> None:
    yard = install(large)
    run_id = yard.submit("test.large", {"size": 70_000}).task_id
    yard.deliver(run_id)
    row = yard.row(run_id)
    assert row.result is None
    document = yard.run(yard.services.storage.get(row.result_ref))
    assert document == b'"' + b"x" * 70_000 + b'"'


def test_a_stored_result_is_kept_by_its_key(install: Install) -> None:
    yard = install(stored)
    run_id = yard.submit("test.stored").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).result_ref == "documents/one.json"


def test_a_result_that_breaks_the_annotation_fails(install: Install) -> None:
    yard = install(wrong_result)
    run_id = yard.submit("test.wrong_result", options={"max_attempts": 1}).task_id
    yard.deliver(run_id)
    assert yard.row(run_id).error["type"] == "TypeError"


def test_sys_exit_in_a_task_is_a_failure(install: Install) -> None:
    yard = install(leave)
    run_id = yard.submit("test.exit").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).error["type"] == "SystemExit"


def test_logs_and_progress_are_kept(install: Install) -> None:
    yard = install(logs)
    run_id = yard.submit("test.logs").task_id
    yard.deliver(run_id)
    lines = yard.run(yard.services.runs.logs(run_id, Somebody()))
    assert [(line.level, line.message) for line in lines] == [
        ("info", "first"),
        ("warning", "second"),
    ]
    assert lines[0].fields["count"] == 1
    assert "hunter2" not in str(lines[0].fields)
    assert yard.row(run_id).progress == {"current": 1, "total": 2, "message": "half"}


def test_a_zombie_writes_nothing(install: Install) -> None:
    yard = install(double)

    @register_task("test.overtaken")
    async def overtaken(ctx: TaskContext) -> str:
        """Lose the lease in the middle of the attempt."""
        async with yard.services.databases.begin("postgres_main") as connection:
            await connection.execute(text("UPDATE task_runs SET fence = fence + 1"))
        return "too late"

    yard = install(overtaken)
    run_id = yard.submit("test.overtaken").task_id
    yard.deliver(run_id)
    row = yard.row(run_id)
    assert (row.status, row.result) == ("RUNNING", None)


def test_a_silent_workers_run_is_taken_back(install: Install) -> None:
    yard = install(double)
    run_id = yard.submit("test.double", {"number": 1}).task_id
    claim(yard, run_id)
    assert yard.run(Sweeper(yard.services).sweep())
    assert yard.row(run_id).status == "RUNNING"
    yard.lose_lease(run_id)
    yard.run(Sweeper(yard.services).sweep())
    assert yard.row(run_id).status == "RUNNING"  # another sweeper leads

    yard.sql("DELETE FROM leases")
    yard.run(Sweeper(yard.services).sweep())
    row = yard.row(run_id)
    assert (row.status, row.error["type"], row.fence) == ("RETRYING", "WorkerLost", 2)
    assert yard.transport.sent[-1].run_id == run_id
    yard.deliver(run_id)
    assert (yard.row(run_id).status, yard.row(run_id).attempt) == ("SUCCEEDED", 2)


def test_a_run_that_was_lost_too_often_fails_for_good(install: Install) -> None:
    yard = install(double)
    run_id = yard.submit("test.double", {"number": 1}, options={"max_attempts": 1}).task_id
    claim(yard, run_id)
    yard.lose_lease(run_id)
    yard.run(Sweeper(yard.services).sweep())
    row = yard.row(run_id)
    letter = yard.run(yard.services.runs.dead_letter(run_id))
    assert (row.status, row.error["type"]) == ("FAILED", "WorkerLost")
    assert letter is not None
    assert letter.id == row.dead_letter_id


def test_an_unconfirmed_message_is_sent_again(install: Install) -> None:
    yard = install(double)
    yard.transport.confirms = False
    run_id = yard.submit("test.double", {"number": 1}).task_id
    assert yard.row(run_id).published_at is None
    yard.transport.confirms = True
    age(yard, run_id, "updated_at")
    yard.run(Sweeper(yard.services).sweep())
    assert [wakeup.run_id for wakeup in yard.transport.sent] == [run_id]
    assert yard.row(run_id).published_at is not None


def test_a_purged_queue_gets_its_messages_again(install: Install) -> None:
    yard = install(double)
    run_id = yard.submit("test.double", {"number": 1}).task_id
    age(yard, run_id, "published_at")
    yard.transport.backlogs["default"] = 3
    yard.run(Sweeper(yard.services).sweep())
    assert len(yard.transport.sent) == 1  # It still waits in the queue.
    yard.transport.backlogs["default"] = 0
    yard.sql("DELETE FROM leases")
    yard.run(Sweeper(yard.services).sweep())
    assert [wakeup.run_id for wakeup in yard.transport.sent] == [run_id, run_id]


def test_the_heartbeat_renews_only_its_own_leases(install: Install) -> None:
    yard = install(double)
    run_id = yard.submit("test.double", {"number": 1}).task_id
    claim(yard, run_id, worker="worker-9:77")
    before = yard.row(run_id).lease_expires_at
    databases = yard.services.databases
    times = {"lease_seconds": 60.0, "cancel_grace_seconds": 60.0}
    assert beat_leases(databases, "worker-9", [(run_id, 78)], **times) == Beat()
    assert beat_leases(databases, "worker-8", [(run_id, 77)], **times) == Beat()
    assert yard.row(run_id).lease_expires_at == before
    mine = frozenset({(run_id, 77)})
    assert beat_leases(databases, "worker-9", mine, **times) == Beat(owned=mine)
    assert yard.row(run_id).lease_expires_at > before


def test_the_heartbeat_tells_of_cancelled_runs_past_their_grace(install: Install) -> None:
    yard = install(double)
    runs = [yard.submit("test.double", {"number": 1}).task_id for _ in range(2)]
    for pid, run_id in enumerate(runs):
        claim(yard, run_id, worker=f"worker-9:{pid}")
    yard.run(yard.services.runs.cancel(runs[1], Somebody()))
    both = frozenset((run_id, pid) for pid, run_id in enumerate(runs))

    def beat(grace: float) -> Beat:
        databases = yard.services.databases
        return beat_leases(
            databases, "worker-9", both, lease_seconds=60.0, cancel_grace_seconds=grace
        )

    assert beat(60.0) == Beat(owned=both)
    assert beat(0.0) == Beat(owned=both, cancelled=frozenset({(runs[1], 1)}))


def test_a_waiting_run_is_cancelled_at_once(install: Install) -> None:
    yard = install(double)
    run_id = yard.submit("test.double", {"number": 1}).task_id
    assert yard.run(yard.services.runs.cancel(run_id, Somebody())).status == "CANCELLED"
    yard.deliver(run_id)
    assert yard.row(run_id).attempt == 0
    with pytest.raises(RunHasEnded):
        yard.run(yard.services.runs.cancel(run_id, Somebody()))


def test_a_run_that_expired_does_not_start(install: Install) -> None:
    yard = install(double)
    run_id = yard.submit("test.double", {"number": 1}).task_id
    age(yard, run_id, "expires_at")
    yard.deliver(run_id)
    assert (yard.row(run_id).status, yard.row(run_id).attempt) == ("EXPIRED", 0)


def test_another_tenants_run_is_not_there(install: Install) -> None:
    yard = install(double)
    run_id = yard.submit("test.double", {"number": 1}).task_id
    with pytest.raises(RunNotFound):
        yard.run(yard.services.runs.get(run_id, Somebody(tenant="other")))
    with pytest.raises(RunNotFound):
        yard.run(yard.services.runs.get("{" + run_id + "}", Somebody()))


@pytest.mark.parametrize("known", [True, False])
def test_what_the_broker_gives_up_is_kept(install: Install, known: bool) -> None:
    yard = install(double)
    run_id = yard.submit("test.double", {"number": 1}).task_id if known else new_id()
    facts = {
        "queue": "default",
        "task": "test.double",
        "run_id": run_id,
        "reason": "rejected",
        "headers": {"task": "test.double"},
        "body": "[]",
        "death": [],
        "is_wakeup": True,
    }
    for _ in range(2):
        yard.run(Sweeper(yard.services).archive_dead_letter(facts))
    letters = yard.sql("SELECT origin, error_type, task FROM dead_letters")
    assert [tuple(letter) for letter in letters] == [("broker", "rejected", "test.double")]
    if known:
        assert yard.row(run_id).status == "FAILED"


def claim(yard: Installation, run_id: str, worker: str = "gone:1") -> None:
    from app.tasks.transitions import CLAIM, apply

    values = {"run_id": run_id, "worker": worker, "lease_seconds": 20.0}
    assert yard.run(apply(yard.services.databases, CLAIM, values)) is not None


def make_due(yard: Installation, run_id: str) -> None:
    age(yard, run_id, "scheduled_for")


def age(yard: Installation, run_id: str, column: str) -> None:
    """Set a moment of the run far back."""
    from tests.harness import _long_ago, _uuid

    is_text = yard.is_sqlite
    yard.sql(
        f"UPDATE task_runs SET {column} = :then WHERE id = :id",
        id=run_id if is_text else _uuid(run_id),
        then="2001-01-01 00:00:00.000000" if is_text else _long_ago(),
    )


def test_a_replayed_answer_is_the_first_one(install: Install) -> None:
    yard = install(double)
    first = yard.submit("test.double", {"number": 1}, idempotency_key="k-1")
    yard.deliver(first.task_id)
    again = yard.submit("test.double", {"number": 1}, idempotency_key="k-1")
    assert (again.task_id, again.status, again.replayed) == (first.task_id, "PENDING", True)
    assert again.created_at == first.created_at


@pytest.mark.parametrize(("attempt", "status"), [(1, "SUCCEEDED"), (9, "RETRYING")])
def test_the_end_of_an_attempt_is_logged_with_what_it_took(
    attempt: int, status: str, install: Install, capfd: pytest.CaptureFixture[str]
) -> None:
    yard = install(fail_until)
    run_id = yard.submit("test.fail_until", {"attempt": attempt}).task_id
    configure_logging("INFO", "json")
    try:
        yard.deliver(run_id)
    finally:
        configure_logging("CRITICAL", "json")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (end,) = [line for line in lines if line["event"] == "attempt ended"]
    assert end["duration_ms"] >= 0
    assert {key: end[key] for key in ("task_id", "task", "attempt", "queue", "status")} == {
        "task_id": run_id,
        "task": "test.fail_until",
        "attempt": 1,
        "queue": "default",
        "status": status,
    }
    assert end["trace_id"] == yard.row(run_id).trace_id
