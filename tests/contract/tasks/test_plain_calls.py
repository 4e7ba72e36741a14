"""Calls of plain Celery producers: one run each, whatever they hold."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app import register_task
from app.common.errors import ServiceUnavailable
from app.common.ids import new_id
from app.tasks.execution import Disposition
from app.tasks.plain_calls import PlainCall
from app.tasks.transport import Wakeup
from tests.harness import Installation
from tests.harness import _long_ago as long_ago

Install = Callable[..., Installation]


@register_task("test.join", queue="slow", priority=8, aliases=("test.concat",))
async def join(left: str, right: str = "") -> str:
    """Join two texts."""
    return left + right


@register_task("test.once", unique_for_seconds=60)
async def once(number: int) -> int:
    """Return the number."""
    return number


@register_task("test.guarded", required_scope="vault:open")
async def guarded() -> None:
    """Ask for a scope."""


@register_task("test.careless", on_failure="discard")
async def careless(number: int) -> int:
    """Return the number."""
    return number


def accept(yard: Installation, task: str, *args: Any, **more: Any) -> str:
    call = PlainCall(
        **{"run_id": new_id(), "task": task, "args": args, "trace_id": "a" * 32, **more}
    )
    assert yard.executor.accept(yard.runner, call) is Disposition.DONE
    return call.run_id


def count(yard: Installation, table: str) -> int:
    return len(yard.sql(f"SELECT id FROM {table}"))


def test_a_call_becomes_a_run_like_any_other(install: Install) -> None:
    yard = install(join)
    run_id = accept(yard, "test.join", "a", kwargs={"right": "b"}, labels={"celery.origin": "x"})
    row = yard.row(run_id)
    assert (row.params, row.queue, row.priority) == ({"left": "a", "right": "b"}, "slow", 8)
    assert (row.created_by, row.tenant, row.trace_id) == ("celery", None, "a" * 32)
    assert row.labels == {"celery.origin": "x"}
    assert row.published_at is not None
    (wakeup,) = yard.transport.sent
    # The wake-up goes where the task's own runs go, with its time limit.
    assert (wakeup.run_id, wakeup.queue, wakeup.timeout_seconds) == (run_id, "slow", 300)
    yard.deliver(run_id)
    assert yard.row(run_id).result == "ab"
    assert yard.events(run_id)[0] == (None, "PENDING")


def test_a_queue_and_a_priority_of_its_own_win(install: Install) -> None:
    yard = install(join)
    row = yard.row(accept(yard, "test.join", "a", queue="default", priority=2))
    assert (row.queue, row.priority) == ("default", 2)


def test_an_alias_is_the_task(install: Install) -> None:
    yard = install(join)
    assert yard.row(accept(yard, "test.concat", "a")).task == "test.join"


def test_a_second_delivery_changes_nothing(install: Install) -> None:
    yard = install(join)
    run_id = accept(yard, "test.join", "a")
    yard.deliver(run_id)
    before = yard.row(run_id)
    accept(yard, "test.join", "forged", run_id=run_id)
    accept(yard, "test.join", 5, run_id=run_id)
    assert yard.row(run_id) == before
    assert count(yard, "task_runs") == len(yard.transport.sent) == 1
    assert count(yard, "dead_letters") == 0


def test_a_broker_that_is_away_leaves_the_run_to_the_sweeper(install: Install) -> None:
    yard = install(join)
    yard.transport.confirms = False
    assert yard.row(accept(yard, "test.join", "a")).published_at is None


def test_a_later_time_and_an_end_are_kept(install: Install) -> None:
    yard = install(join)
    due = datetime.now(UTC) + timedelta(hours=1)
    row = yard.row(accept(yard, "test.join", "a", run_at=due, expires_at=due))
    assert (row.status, row.scheduled_for, row.expires_at) == ("SCHEDULED", due, due)
    assert 3500 < yard.transport.sent[0].delay_seconds <= 3600


def test_a_call_past_its_end_expires(install: Install) -> None:
    yard = install(join)
    run_id = accept(yard, "test.join", "a", expires_at=long_ago())
    yard.deliver(run_id)
    assert (yard.row(run_id).status, yard.row(run_id).attempt) == ("EXPIRED", 0)


@pytest.mark.parametrize(
    ("task", "more", "error", "told"),
    [
        ("test.join", {"args": [5]}, "InvalidParams", "params.left"),
        ("test.join", {"args": ["a", "b", "c"]}, "InvalidParams", "at most 2 positional"),
        ("test.join", {"args": ["a"], "kwargs": {"left": "b"}}, "InvalidParams", "twice: left"),
        ("test.join", {"args": ["x" * 300_000]}, "ParamsTooLarge", "limit"),
        ("test.join", {"args": ["a"], "queue": "nowhere"}, "InvalidOptions", "options.queue"),
        (
            "test.join",
            {"args": ["a"], "run_at": datetime(2200, 1, 1, tzinfo=UTC)},
            "InvalidOptions",
            "options.run_at",
        ),
        ("test.guarded", {}, "Forbidden", "asks for a scope"),
    ],
)
def test_a_wrong_call_is_a_failed_run_with_a_dead_letter(
    install: Install, task: str, more: dict[str, Any], error: str, told: str
) -> None:
    yard = install(join, guarded)
    run_id = accept(yard, task, **more)
    row = yard.row(run_id)
    assert (row.status, row.error["type"], row.error["retryable"]) == ("FAILED", error, False)
    assert told in row.error["message"]
    assert row.finished_at is not None
    assert yard.events(run_id) == [(None, "FAILED")]
    letter = yard.run(yard.services.runs.dead_letter(run_id))
    assert letter is not None
    assert (letter.id, letter.error_type, letter.task) == (row.dead_letter_id, error, task)
    assert told in letter.error_message
    assert yard.transport.sent == []
    # Nothing runs it, and a second delivery leaves one letter.
    yard.deliver(run_id)
    accept(yard, task, run_id=run_id, **more)
    assert yard.row(run_id).attempt == 0
    assert count(yard, "dead_letters") == 1


def test_a_wrong_call_keeps_what_came(install: Install) -> None:
    yard = install(join)
    row = yard.row(accept(yard, "test.join", "a", "b", "c", kwargs={"more": 1}))
    assert row.params == {"args": ["a", "b", "c"], "kwargs": {"more": 1}}


def test_a_task_that_discards_keeps_no_letter(install: Install) -> None:
    yard = install(careless)
    row = yard.row(accept(yard, "test.careless", "x"))
    assert (row.status, row.dead_letter_id) == ("FAILED", None)
    assert count(yard, "dead_letters") == 0


def test_equal_calls_of_a_unique_task_are_one_run(install: Install) -> None:
    yard = install(once)
    accept(yard, "test.once", 1)
    accept(yard, "test.once", 1)
    assert count(yard, "task_runs") == len(yard.transport.sent) == 1


def test_a_database_that_is_away_keeps_the_message(install: Install) -> None:
    yard = install(join)

    class Away:
        async def accept(self, call: PlainCall) -> None:
            raise ServiceUnavailable("The database is away.")

    object.__setattr__(yard.services, "plain_calls", Away())
    call = PlainCall(run_id=new_id(), task="test.join", args=["a"], trace_id="a" * 32)
    assert yard.executor.accept(yard.runner, call) is Disposition.LATER


def test_a_wake_up_never_makes_a_run(install: Install) -> None:
    yard = install(careless)
    assert yard.deliver(new_id()) is Disposition.UNKNOWN
    assert Wakeup(new_id(), "test.careless", "default") not in yard.transport.sent
    assert count(yard, "task_runs") == 0
