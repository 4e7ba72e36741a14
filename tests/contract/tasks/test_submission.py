"""Accepting runs: what the row holds, what is refused, and idempotency keys."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app import register_task
from app.common.errors import Forbidden
from app.common.ids import new_id
from app.common.tracing import new_trace
from app.tasks.errors import (
    IdempotencyKeyInFlight,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    InvalidOptions,
    InvalidParams,
    ParamsTooLarge,
    RunAlreadyExists,
    TaskNotRegistered,
)
from app.tasks.idempotency import fingerprint_of
from app.tasks.requests import MAX_LABELS, RunOptions, RunRequest
from app.tasks.run_lists import RunFilters
from app.tasks.submission import Submitted
from tests.harness import Installation, Somebody
from tests.harness import _long_ago as long_ago

Install = Callable[..., Installation]


@register_task(
    "test.echo",
    queue="slow",
    priority=7,
    max_attempts=4,
    backoff_seconds=2,
    backoff_max_seconds=9,
    timeout_seconds=11,
    aliases=("test.say",),
)
async def echo(text: str, more: dict[str, Any] | None = None) -> str:
    """Return the text."""
    return text


@register_task("test.guarded", required_scope="vault:open")
async def guarded() -> None:
    """Ask for a scope."""


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def runs_of(yard: Installation) -> int:
    return len(yard.sql("SELECT id FROM task_runs"))


def test_the_row_holds_the_request_and_the_tasks_policy(install: Install) -> None:
    yard = install(echo)
    accepted = yard.submit(
        "test.echo", {"text": "ü \U0001f600 {{7*7}} %s '; DROP"}, labels={"a.b": "c"}
    )
    row = yard.row(accepted.task_id)
    assert (accepted.task, accepted.status, accepted.replayed) == ("test.echo", "PENDING", False)
    assert accepted.created_at == row.created_at
    assert row.params == {"text": "ü \U0001f600 {{7*7}} %s '; DROP"}
    assert (row.task, row.function, row.queue, row.priority) == (
        "test.echo",
        "test.echo",
        "slow",
        7,
    )
    assert (row.attempt, row.max_attempts, row.fence) == (0, 4, 0)
    assert row.options == {
        "timeout_seconds": 11,
        "backoff_seconds": 2,
        "backoff_max_seconds": 9,
        "jitter": 0.25,
        "on_failure": "dead_letter",
    }
    assert row.labels == {"a.b": "c"}
    assert (row.created_by, row.tenant, row.scheduled_for) == ("somebody", None, None)
    assert len(row.trace_id) == 32
    (wakeup,) = yard.transport.sent
    assert (wakeup.function, wakeup.queue, wakeup.priority) == ("test.echo", "slow", 7)
    assert (wakeup.delay_seconds, wakeup.timeout_seconds) == (0, 11)
    assert wakeup.traceparent is not None
    assert row.trace_id in wakeup.traceparent


def test_options_of_the_request_win(install: Install) -> None:
    yard = install(echo)
    options = {"queue": "default", "priority": 0, "max_attempts": 1, "timeout_seconds": 3}
    row = yard.row(yard.submit("test.echo", {"text": "a"}, options=options).task_id)
    assert (row.queue, row.priority, row.max_attempts) == ("default", 0, 1)
    assert row.options["timeout_seconds"] == 3


def test_an_alias_runs_the_task_under_its_name(install: Install) -> None:
    yard = install(echo)
    run_id = yard.submit("test.say", {"text": "a"}).task_id
    assert yard.row(run_id).task == "test.echo"


def test_a_delay_schedules(install: Install) -> None:
    yard = install(echo)
    accepted = yard.submit("test.echo", {"text": "a"}, options={"delay_seconds": 60})
    row = yard.row(accepted.task_id)
    assert accepted.status == row.status == "SCHEDULED"
    assert timedelta(seconds=59) < row.scheduled_for - row.created_at < timedelta(seconds=61)
    assert 59 < yard.transport.sent[0].delay_seconds <= 60.01
    yard.deliver(row.id)
    assert yard.row(row.id).attempt == 0


def test_a_moment_schedules(install: Install) -> None:
    yard = install(echo)
    moment = soon(3600)
    row = yard.row(yard.submit("test.echo", {"text": "a"}, options={"run_at": moment}).task_id)
    assert row.status == "SCHEDULED"
    assert row.scheduled_for == moment
    assert 3500 < yard.transport.sent[0].delay_seconds < 3601


@pytest.mark.parametrize("options", [{"run_at": long_ago()}, {"delay_seconds": 0}])
def test_what_is_due_already_runs_now(install: Install, options: dict[str, Any]) -> None:
    yard = install(echo)
    accepted = yard.submit("test.echo", {"text": "a"}, options=options)
    assert accepted.status == "PENDING"
    assert yard.transport.sent[0].delay_seconds == 0
    yard.deliver(accepted.task_id)
    assert yard.row(accepted.task_id).status == "SUCCEEDED"


def test_an_end_of_waiting_is_kept(install: Install) -> None:
    yard = install(echo)
    moment = soon(60)
    run_id = yard.submit("test.echo", {"text": "a"}, options={"expires_at": moment}).task_id
    assert yard.row(run_id).expires_at == moment


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"queue": "nowhere"}, "queue"),
        ({"delay_seconds": 31_536_001}, "delay_seconds"),
        ({"run_at": soon(31_536_000 + 86_400)}, "run_at"),
        ({"timeout_seconds": 86_401}, "timeout_seconds"),
        ({"max_attempts": 101}, "max_attempts"),
        ({"expires_at": long_ago()}, "expires_at"),
    ],
)
def test_an_option_out_of_range_is_placed(
    install: Install, options: dict[str, Any], name: str
) -> None:
    yard = install(echo)
    with pytest.raises(InvalidOptions) as caught:
        yard.submit("test.echo", {"text": "a"}, options=options)
    assert [fault.loc for fault in caught.value.errors] == [("options", name)]
    assert runs_of(yard) == 0
    assert yard.transport.sent == []


def test_an_unknown_queue_is_told_the_known_ones(install: Install) -> None:
    with pytest.raises(InvalidOptions) as caught:
        install(echo).submit("test.echo", {"text": "a"}, options={"queue": "nowhere"})
    assert "default, slow" in caught.value.errors[0].msg


def test_all_wrong_options_are_told_at_once(install: Install) -> None:
    with pytest.raises(InvalidOptions) as caught:
        install(echo).submit(
            "test.echo", {"text": "a"}, options={"queue": "nowhere", "max_attempts": 500}
        )
    assert len(caught.value.errors) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"delay_seconds": -1},
        {"delay_seconds": float("nan")},
        {"delay_seconds": float("inf")},
        {"delay_seconds": "1"},
        {"delay_seconds": 1, "run_at": soon(60)},
        {"priority": 10},
        {"priority": -1},
        {"priority": True},
        {"max_attempts": 0},
        {"timeout_seconds": 0},
        {"run_at": datetime(2030, 1, 1)},  # noqa: DTZ001 - a moment without a zone
        {"queue": "../x"},
        {"unknown": 1},
    ],
)
def test_options_are_read_strictly(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        RunOptions(**options)


def test_wrong_parameters_leave_nothing_behind(install: Install) -> None:
    yard = install(echo)
    with pytest.raises(InvalidParams) as caught:
        yard.submit("test.echo", {"text": 5, "other": 1})
    assert {fault.loc for fault in caught.value.errors} == {("params", "text"), ("params", "other")}
    assert runs_of(yard) == 0


def test_parameters_have_a_limit(install: Install) -> None:
    yard = install(echo)
    limit = yard.services.settings.limits.max_params_bytes
    frame = len('{"text":""}')
    assert yard.submit("test.echo", {"text": "x" * (limit - frame)}).status == "PENDING"
    with pytest.raises(ParamsTooLarge):
        yard.submit("test.echo", {"text": "x" * (limit - frame + 1)})
    with pytest.raises(ParamsTooLarge):
        yard.submit("test.echo", {"text": "ü" * (limit // 2)})


def test_labels_have_a_limit(install: Install) -> None:
    yard = install(echo)
    labels = {f"l{number}": "x" for number in range(MAX_LABELS)}
    assert yard.submit("test.echo", {"text": "a"}, labels=labels).status == "PENDING"
    with pytest.raises(InvalidOptions):
        yard.submit("test.echo", {"text": "a"}, labels={**labels, "one": "more"})


def test_an_unknown_task_tells_the_near_ones(install: Install) -> None:
    with pytest.raises(TaskNotRegistered) as caught:
        install(echo).submit("test.ecco", {"text": "a"})
    assert caught.value.hint is not None
    assert "'test.echo'" in caught.value.hint


def test_a_task_may_ask_for_its_own_scope(install: Install) -> None:
    yard = install(guarded)
    with pytest.raises(Forbidden, match="vault:open"):
        yard.submit("test.guarded", caller=Somebody(scopes=frozenset({"tasks:run"})))
    assert runs_of(yard) == 0
    allowed = Somebody(scopes=frozenset({"vault:open"}))
    assert yard.submit("test.guarded", caller=allowed).status == "PENDING"


def test_an_id_is_used_once(install: Install) -> None:
    yard = install(echo)
    run_id = new_id()
    assert yard.submit("test.echo", {"text": "a"}, task_id=run_id).task_id == run_id
    with pytest.raises(RunAlreadyExists):
        yard.submit("test.echo", {"text": "b"}, task_id=run_id)
    with pytest.raises(RunAlreadyExists):
        yard.submit("test.echo", {"text": "b"}, task_id=run_id, idempotency_key="k")
    assert yard.row(run_id).params == {"text": "a"}
    # The key of the request that was refused is free.
    assert not yard.submit("test.echo", {"text": "c"}, idempotency_key="k").replayed


def test_a_broker_that_is_away_does_not_matter(install: Install) -> None:
    yard = install(echo)
    yard.transport.confirms = False
    accepted = yard.submit("test.echo", {"text": "a"})
    assert yard.row(accepted.task_id).published_at is None
    yard.transport.confirms = True
    other = yard.submit("test.echo", {"text": "a"})
    assert yard.row(other.task_id).published_at is not None


# Idempotency.


def with_key(yard: Installation, text: str = "a", key: str = "key", **more: Any) -> Submitted:
    return yard.submit("test.echo", {"text": text}, idempotency_key=key, **more)


def test_the_same_request_gets_the_same_answer(install: Install) -> None:
    yard = install(echo)
    first = with_key(yard)
    yard.deliver(first.task_id)
    assert yard.row(first.task_id).idempotency_key == "key"
    again = with_key(yard)
    assert again.replayed
    # The answer of then, although the run has ended meanwhile.
    assert (again.task_id, again.task, again.status, again.created_at) == (
        first.task_id,
        first.task,
        "PENDING",
        first.created_at,
    )
    assert runs_of(yard) == 1
    assert len(yard.transport.sent) == 1


def test_a_scheduled_run_is_replayed_as_scheduled(install: Install) -> None:
    yard = install(echo)
    first = with_key(yard, options={"delay_seconds": 60})
    yard.run(yard.services.runs.cancel(first.task_id, Somebody()))
    assert with_key(yard, options={"delay_seconds": 60}).status == first.status == "SCHEDULED"


def test_the_order_of_keys_does_not_count(install: Install) -> None:
    yard = install(echo)
    first = yard.submit(
        "test.echo", {"text": "a", "more": {"x": 1, "y": 2}}, idempotency_key="key",
        labels={"a": "1", "b": "2"},
    )  # fmt: skip
    again = yard.submit(
        "test.echo", {"more": {"y": 2, "x": 1}, "text": "a"}, idempotency_key="key",
        labels={"b": "2", "a": "1"},
    )  # fmt: skip
    assert again.replayed
    assert again.task_id == first.task_id


@pytest.mark.parametrize(
    "other",
    [
        {"params": {"text": "b"}},
        {"options": RunOptions(priority=1)},
        {"labels": {"a": "b"}},
        {"task": "test.say"},
        {"replay_of": new_id()},
    ],
)
def test_whatever_is_asked_for_counts(other: dict[str, Any]) -> None:
    wish: dict[str, Any] = {"task": "test.echo", "params": {"text": "a"}}
    assert fingerprint_of(RunRequest(**wish)) == fingerprint_of(RunRequest(**wish))
    assert fingerprint_of(RunRequest(**wish)) != fingerprint_of(RunRequest(**{**wish, **other}))


def test_another_request_may_not_use_the_key(install: Install) -> None:
    yard = install(echo)
    first = with_key(yard)
    with pytest.raises(IdempotencyKeyReused):
        with_key(yard, "b")
    assert runs_of(yard) == 1
    assert with_key(yard).task_id == first.task_id


def test_callers_tenants_and_endpoints_have_their_own_keys(install: Install) -> None:
    yard = install(echo)
    made = {
        with_key(yard).task_id,
        with_key(yard, "b", caller=Somebody(id="other")).task_id,
        with_key(yard, "c", caller=Somebody(tenant="t1")).task_id,
        with_key(yard, "d", caller=Somebody(tenant="t2")).task_id,
        with_key(yard, "e", key="key2").task_id,
    }

    async def elsewhere() -> Submitted:
        accepted = await yard.services.submission.submit(
            RunRequest(task="test.echo", params={"text": "f"}),
            principal=Somebody(),
            trace=new_trace(),
            idempotency_key="key",
            endpoint="tasks/rerun",
        )
        await yard.services.outbox.close()
        return accepted

    made.add(yard.run(elsewhere()).task_id)
    assert len(made) == runs_of(yard) == 6


def test_an_expired_key_is_free(install: Install) -> None:
    yard = install(echo)
    first = with_key(yard)
    yard.sql(
        "UPDATE idempotency_keys SET expires_at = :then",
        then="2001-01-01 00:00:00.000000" if yard.is_sqlite else long_ago(),
    )
    second = with_key(yard, "b")
    assert not second.replayed
    assert second.task_id != first.task_id
    assert with_key(yard, "b").task_id == second.task_id
    with pytest.raises(IdempotencyKeyReused):
        with_key(yard, "a")


def test_a_request_that_was_refused_leaves_the_key_free(install: Install) -> None:
    yard = install(echo)
    with pytest.raises(InvalidParams):
        yard.submit("test.echo", {"text": 5}, idempotency_key="key")
    with pytest.raises(InvalidOptions):
        with_key(yard, options={"queue": "nowhere"})
    assert not with_key(yard).replayed


def test_what_was_accepted_is_answered_although_it_would_be_refused_now(install: Install) -> None:
    yard = install(echo)
    moment = soon(0.2)
    first = with_key(yard, options={"expires_at": moment})
    yard.run(asyncio.sleep(0.3))
    with pytest.raises(InvalidOptions):
        with_key(yard, key="another", options={"expires_at": moment})
    assert with_key(yard, options={"expires_at": moment}).task_id == first.task_id


def test_a_key_survives_its_task(install: Install) -> None:
    first = with_key(install(echo))
    assert with_key(install(guarded)).task_id == first.task_id


@pytest.mark.parametrize(
    "key", ["", "x" * 256, " a", "a ", "a\n", "a\x00", "ü", "\x7f", "\U0001f600"]
)
def test_a_key_is_printable_ascii(install: Install, key: str) -> None:
    yard = install(echo)
    with pytest.raises(InvalidIdempotencyKey):
        with_key(yard, key=key)
    assert runs_of(yard) == 0


@pytest.mark.parametrize("key", ["k", "x" * 255, "a b", '"quoted"', "~!@#$%^&*()"])
def test_keys_that_are_fine(install: Install, key: str) -> None:
    yard = install(echo)
    assert with_key(yard, key=key).task_id == with_key(yard, key=key).task_id


def test_fifty_at_once_make_one_run(install: Install) -> None:
    yard = install(echo)

    async def all_at_once() -> list[Submitted]:
        submission = yard.services.submission
        made = await asyncio.gather(
            *(
                submission.submit(
                    RunRequest(task="test.echo", params={"text": "a"}),
                    principal=Somebody(),
                    trace=new_trace(),
                    idempotency_key="key",
                )
                for _ in range(50)
            )
        )
        await yard.services.outbox.close()
        return made

    made = yard.run(all_at_once())
    assert len({one.task_id for one in made}) == 1
    assert sum(not one.replayed for one in made) == 1
    assert runs_of(yard) == len(yard.transport.sent) == 1
    assert len(yard.events(made[0].task_id)) == 1


def test_the_key_of_a_filter_finds_nothing_of_others(install: Install) -> None:
    yard = install(echo)
    with_key(yard, caller=Somebody(tenant="t1"))
    page = yard.run(yard.services.runs.list(RunFilters(), 10, None, Somebody(tenant="t2")))
    assert page.items == []


def test_a_key_whose_first_request_hangs_is_in_flight(install: Install) -> None:
    yard = install(echo)
    if yard.is_sqlite:
        pytest.skip("SQLite has one writer: the second request waits for the whole database")
    record = (
        "INSERT INTO idempotency_keys (caller, endpoint, key, fingerprint, run_id, expires_at) "
        "VALUES ('/somebody', 'tasks/run', 'k-1', 'x', gen_random_uuid(), now())"
    )
    with yard.services.databases.get_sync_engine("postgres_main").connect() as first:
        first.execute(text(record))
        with pytest.raises(IdempotencyKeyInFlight):
            with_key(yard, key="k-1")
        first.rollback()
    assert not with_key(yard, key="k-1").replayed
