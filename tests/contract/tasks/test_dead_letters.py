"""Dead letters are listed, grouped, replayed once and put aside, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.engine import Row
from sqlalchemy.exc import DBAPIError

from app import Fatal, register_task
from app.common.errors import Forbidden, TaskyardError
from app.common.ids import new_id
from app.common.tracing import new_trace
from app.tasks.audit import audit_of
from app.tasks.dead_letter_queries import DeadLetterFilters, LetterState
from app.tasks.dead_letters import DISCARDED
from app.tasks.errors import (
    DeadLetterDiscarded,
    DeadLetterHasNoRun,
    DeadLetterNotFound,
    DeadLetterReplayed,
    DeadLetterTaskNotRegistered,
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidOptions,
    InvalidParams,
)
from app.tasks.replay_batches import CHUNK, OBJECT, REPLAYED, ReplayedMany
from app.tasks.submission import Submitted
from app.tasks.sweeper import Sweeper
from tests.contract.tasks.conftest import Install
from tests.contract.tasks.test_run_life import age
from tests.harness import Installation, Somebody

ALL = DeadLetterFilters()
OTHER = Somebody("other", tenant="other")
GARBAGE: dict[str, Any] = {
    "queue": "default",
    "task": None,
    "run_id": None,
    "reason": "rejected",
    "death": [],
}


@register_task("test.divide", max_attempts=1, timeout_seconds=60)
async def divide(a: int, b: int) -> float:
    """Divide."""
    if b == 0:
        raise Fatal("division by zero")
    return a / b


@register_task("test.refuse", max_attempts=1)
async def refuse() -> None:
    """Fail with another error."""
    raise ValueError("no")


@register_task("test.guarded", max_attempts=1, required_scope="test:guarded")
async def guarded() -> None:
    """Ask for a scope of its own."""
    raise Fatal("never")


@register_task("test.divide", max_attempts=1)
async def divide_text(text: str) -> str:
    """What the task of this name became with the next release."""
    return text


def fail(yard: Installation, task: str = "test.divide", **more: Any) -> str:
    """Let a run fail for good; return the id of its dead letter."""
    more.setdefault("params", {"a": 1, "b": 0} if task == "test.divide" else {})
    run_id = yard.submit(task, **more).task_id
    yard.deliver(run_id)
    caller = more.get("caller", Somebody())
    letter_id = yard.run(yard.services.runs.get(run_id, caller)).dead_letter_id
    assert isinstance(letter_id, str)
    return letter_id


def archive(yard: Installation, **facts: Any) -> None:
    yard.run(Sweeper(yard.services).archive_dead_letter({**GARBAGE, **facts}))


def letters(
    yard: Installation, filters: DeadLetterFilters = ALL, caller: Somebody | None = None
) -> list[Row[Any]]:
    page = yard.run(yard.services.dead_letters.list(filters, 200, None, caller or Somebody()))
    return page.items


def letter(yard: Installation, letter_id: str) -> Row[Any]:
    return yard.run(yard.services.dead_letters.get(letter_id, Somebody()))


def replay(yard: Installation, letter_id: str, **more: Any) -> Submitted:
    caller = more.pop("caller", Somebody())

    async def accept() -> Submitted:
        accepted = await yard.services.dead_letters.replay(
            letter_id, caller, trace=new_trace(), **more
        )
        await yard.services.outbox.close()
        return accepted

    return yard.run(accept())


def replay_all(yard: Installation, filters: DeadLetterFilters = ALL, **more: Any) -> ReplayedMany:
    async def accept() -> ReplayedMany:
        done = await yard.services.dead_letters.replay_all(
            filters, more.pop("caller", Somebody()), trace=new_trace(), **more
        )
        await yard.services.outbox.close()
        return done

    return yard.run(accept())


def audit(yard: Installation, letter_id: str) -> Sequence[Row[Any]]:
    return yard.run(audit_of(yard.services.databases, OBJECT, letter_id))


class TestLooking:
    def test_the_list_is_newest_first_and_goes_on_by_cursor(self, install: Install) -> None:
        yard = install(divide)
        ids = [fail(yard) for _ in range(5)]
        listing = yard.services.dead_letters.list
        first = yard.run(listing(ALL, 2, None, Somebody()))
        second = yard.run(listing(ALL, 2, first.next_cursor, Somebody()))
        third = yard.run(listing(ALL, 2, second.next_cursor, Somebody()))
        found = [row.id for page in (first, second, third) for row in page.items]
        assert found == ids[::-1]
        assert third.next_cursor is None
        with pytest.raises(InvalidCursor):
            yard.run(listing(ALL, 2, "nonsense", Somebody()))

    def test_every_filter_narrows(self, install: Install) -> None:
        yard = install(divide, refuse)
        old, slow = fail(yard), fail(yard, options={"queue": "slow"})
        refused = fail(yard, "test.refuse")
        archive(yard)
        (garbage,) = [row.id for row in letters(yard) if row.origin == "broker"]

        def found(**filters: Any) -> set[str]:
            return {row.id for row in letters(yard, DeadLetterFilters(**filters))}

        assert found() == {old, slow, refused, garbage}
        assert found(task="test.refuse") == {refused}
        assert found(queue="slow") == {slow}
        assert found(error_type="Fatal") == {old, slow}
        assert found(origin="broker") == {garbage}
        assert found(error_type="Fatal", queue="default") == {old}
        since = letter(yard, refused).created_at
        assert {refused, garbage} <= found(since=since)
        assert old not in found(since=since)

    def test_groups_count_by_task_error_and_origin(self, install: Install) -> None:
        yard = install(divide, refuse)
        ids = [fail(yard) for _ in range(3)]
        newest = fail(yard, "test.refuse")
        replay(yard, ids[0], params={"a": 1, "b": 1})
        grouping = yard.services.dead_letters.groups
        page = yard.run(grouping(ALL, 200, None, Somebody()))
        assert [(row.task, row.error_type, row.letters, row.replayed) for row in page.items] == [
            ("test.refuse", "ValueError", 1, 0),
            ("test.divide", "Fatal", 3, 1),
        ]
        group = page.items[1]
        assert (group.first_seen, group.last_seen) == (
            letter(yard, ids[0]).created_at,
            letter(yard, ids[2]).created_at,
        )
        assert (page.items[0].last_id, group.last_id, group.origin) == (newest, ids[2], "run")
        first = yard.run(grouping(ALL, 1, None, Somebody()))
        second = yard.run(grouping(ALL, 1, first.next_cursor, Somebody()))
        assert [row.task for row in (*first.items, *second.items)] == ["test.refuse", "test.divide"]
        assert second.next_cursor is None

    def test_a_letter_tells_its_run_and_its_replays(self, install: Install) -> None:
        yard = install(divide)
        found = letter(yard, fail(yard))
        queries = yard.services.dead_letters
        run = yard.run(queries.run_of(found))
        assert run is not None
        assert (run.id, run.dead_letter_id) == (found.run_id, found.id)
        assert yard.run(queries.replays_of(found)) == []
        again = replay(yard, found.id)
        assert [row.id for row in yard.run(queries.replays_of(found))] == [again.task_id]

    def test_another_tenants_letter_is_not_there(self, install: Install) -> None:
        yard = install(divide)
        mine, theirs = fail(yard), fail(yard, caller=OTHER)
        assert [row.id for row in letters(yard)] == [mine]
        assert [row.id for row in letters(yard, caller=OTHER)] == [theirs]
        for letter_id in (theirs, new_id(), "nonsense"):
            with pytest.raises(DeadLetterNotFound):
                replay(yard, letter_id)
            with pytest.raises(DeadLetterNotFound):
                yard.run(yard.services.dead_letters.discard(letter_id, Somebody(), reason=None))
        assert replay_all(yard).count == 1
        discarded = yard.services.dead_letters.discard_all(ALL, Somebody(), reason="mine")
        assert yard.run(discarded) == 1
        assert letters(yard, caller=OTHER)[0].replayed_at is None

    def test_a_message_cannot_claim_the_run_of_a_tenant(self, install: Install) -> None:
        yard = install(divide)
        run_id = yard.submit("test.divide", {"a": 1, "b": 1}, caller=OTHER).task_id
        yard.deliver(run_id)
        archive(yard, run_id=run_id)
        # The run is there, so the letter belongs to the run's tenant.
        assert letters(yard) == []
        (stray,) = letters(yard, caller=OTHER)
        assert stray.run_id is None


class TestReplay:
    def test_it_is_a_new_run_of_the_same_kind(self, install: Install) -> None:
        yard = install(divide)
        options = {"priority": 8, "queue": "slow", "max_attempts": 7, "timeout_seconds": 90.0}
        letter_id = fail(yard, options=options, labels={"team": "data"}, parent_id=new_id())
        again = replay(yard, letter_id, reason="mended")
        before, row = yard.row(letter(yard, letter_id).run_id), yard.row(again.task_id)
        assert (row.status, row.replay_of, row.attempt) == ("PENDING", before.id, 0)
        for same in ("task", "params", "labels", "priority", "queue", "max_attempts", "parent_id"):
            assert row._asdict()[same] == before._asdict()[same]
        assert row.options["timeout_seconds"] == 90
        assert row.trace_id != before.trace_id
        assert yard.events(row.id) == [(None, "PENDING")]
        assert [wakeup.run_id for wakeup in yard.transport.sent][-1] == row.id

    def test_a_limit_that_was_raised_since_holds(self, install: Install) -> None:
        yard = install(divide)
        letter_id = fail(yard, options={"timeout_seconds": 0.5})
        assert yard.row(replay(yard, letter_id).task_id).options["timeout_seconds"] == 60

    def test_edited_params_are_checked_and_can_succeed(self, install: Install) -> None:
        yard = install(divide)
        letter_id = fail(yard)
        with pytest.raises(InvalidParams) as caught:
            replay(yard, letter_id, params={"a": "x", "c": 1})
        places = {error.loc[:2] for error in caught.value.errors}
        assert places == {("params", "a"), ("params", "b"), ("params", "c")}
        assert letter(yard, letter_id).replayed_at is None
        again = replay(yard, letter_id, params={"a": 6, "b": 2})
        yard.deliver(again.task_id)
        assert (yard.row(again.task_id).status, yard.row(again.task_id).result) == ("SUCCEEDED", 3)

    def test_mark_run_and_audit_tell_the_same(self, install: Install) -> None:
        yard = install(divide)
        letter_id = fail(yard)
        again = replay(yard, letter_id, params={"a": 1, "b": 1}, reason="mended")
        row = letter(yard, letter_id)
        assert (row.replayed_by, row.replay_run_id) == ("somebody", again.task_id)
        (entry,) = audit(yard, letter_id)
        assert (entry.actor, entry.action, entry.reason) == ("somebody", REPLAYED, "mended")
        assert entry.detail == {"run_id": again.task_id, "params_edited": True}

    def test_nothing_is_kept_of_a_replay_that_cannot_commit(self, install: Install) -> None:
        yard = install(divide)
        letter_id = fail(yard)
        yard.sql("ALTER TABLE audit_log RENAME TO away")
        try:
            with pytest.raises(DBAPIError):
                replay(yard, letter_id)
        finally:
            yard.sql("ALTER TABLE away RENAME TO audit_log")
        assert letter(yard, letter_id).replayed_at is None
        assert len(yard.sql("SELECT id FROM task_runs")) == 1
        assert replay(yard, letter_id).status == "PENDING"

    def test_a_second_replay_is_refused_with_the_run_of_the_first(self, install: Install) -> None:
        yard = install(divide)
        letter_id = fail(yard)
        first = replay(yard, letter_id)
        with pytest.raises(DeadLetterReplayed) as caught:
            replay(yard, letter_id)
        assert caught.value.members == {"run_id": first.task_id}
        assert first.task_id in caught.value.detail

    def test_many_replays_at_once_give_one_run(self, install: Install) -> None:
        yard = install(divide)
        letter_id = fail(yard)
        one = yard.services.dead_letters.replay

        async def race() -> list[Submitted | BaseException]:
            calls = [one(letter_id, Somebody(), trace=new_trace()) for _ in range(8)]
            done = await asyncio.gather(*calls, return_exceptions=True)
            await yard.services.outbox.close()
            return done

        done = yard.run(race())
        (won,) = [result for result in done if isinstance(result, Submitted)]
        lost = [result for result in done if isinstance(result, DeadLetterReplayed)]
        assert [error.members["run_id"] for error in lost] == [won.task_id] * 7
        assert len(audit(yard, letter_id)) == 1
        runs = yard.sql("SELECT id FROM task_runs WHERE replay_of IS NOT NULL")
        assert [str(run.id) for run in runs] == [won.task_id]

    def test_the_same_key_gets_the_same_answer(self, install: Install) -> None:
        yard = install(divide)
        letter_id = fail(yard)
        edited = {"a": 1, "b": 1}
        first = replay(yard, letter_id, params=edited, idempotency_key="key-1")
        yard.deliver(first.task_id)
        second = replay(yard, letter_id, params=edited, idempotency_key="key-1")
        assert second == replace(first, replayed=True)
        with pytest.raises(IdempotencyKeyReused):
            replay(yard, letter_id, idempotency_key="key-1")
        with pytest.raises(DeadLetterReplayed):
            replay(yard, letter_id, params=edited, idempotency_key="key-2")
        with pytest.raises(DeadLetterReplayed):
            replay(yard, letter_id, params=edited, idempotency_key="key-1", caller=Somebody("else"))

    def test_a_replay_that_fails_has_a_letter_of_its_own(self, install: Install) -> None:
        yard = install(divide)
        first = replay(yard, fail(yard))
        yard.deliver(first.task_id)
        second = replay(yard, yard.row(first.task_id).dead_letter_id)
        assert yard.row(second.task_id).replay_of == first.task_id

    def test_a_discarded_letter_is_not_replayed(self, install: Install) -> None:
        yard = install(divide)
        letter_id = fail(yard)
        yard.run(yard.services.dead_letters.discard(letter_id, Somebody(), reason="old"))
        with pytest.raises(DeadLetterDiscarded):
            replay(yard, letter_id)

    @pytest.mark.parametrize("claimed", [True, False])
    def test_garbage_cannot_be_replayed(self, install: Install, claimed: bool) -> None:
        yard = install(divide)
        run_id = new_id() if claimed else None
        archive(yard, run_id=run_id)
        (garbage,) = letters(yard)
        with pytest.raises(DeadLetterHasNoRun) as caught:
            replay(yard, garbage.id)
        assert (run_id or "malformed") in caught.value.detail

    def test_a_task_that_is_gone_is_told_with_the_cure(self, install: Install) -> None:
        letter_id = fail(install(divide))
        with pytest.raises(DeadLetterTaskNotRegistered, match=r"test\.divide") as caught:
            replay(install(refuse), letter_id)
        assert "aliases=" in (caught.value.hint or "")

    def test_a_task_that_asks_for_a_scope_asks_again(self, install: Install) -> None:
        yard = install(guarded)
        letter_id = fail(yard, "test.guarded")
        with pytest.raises(Forbidden):
            replay(yard, letter_id, caller=Somebody(scopes=frozenset()))
        assert replay(yard, letter_id).status == "PENDING"


class TestReplayByFilter:
    def test_a_dry_run_counts_and_changes_nothing(self, install: Install) -> None:
        yard = install(divide, refuse)
        ids = [fail(yard) for _ in range(2)]
        fail(yard, "test.refuse")
        done = replay_all(yard, DeadLetterFilters(task="test.divide"), dry_run=True)
        assert done == ReplayedMany(count=2, batch_id=None, skipped={})
        assert [row.replayed_at for row in letters(yard)] == [None] * 3
        assert [audit(yard, letter_id) for letter_id in ids] == [[], []]

    def test_what_matches_is_replayed_in_one_batch(self, install: Install) -> None:
        yard = install(divide, refuse)
        ids = [fail(yard) for _ in range(3)]
        other = fail(yard, "test.refuse")
        done = replay_all(yard, DeadLetterFilters(task="test.divide"), reason="mended")
        assert (done.count, done.skipped) == (3, {})
        runs = yard.sql("SELECT id, status, replay_of FROM task_runs WHERE batch_id IS NOT NULL")
        assert {run.status for run in runs} == {"PENDING"}
        made = {str(run.replay_of): str(run.id) for run in runs}
        for letter_id in ids:
            row = letter(yard, letter_id)
            assert made[row.run_id] == row.replay_run_id
            assert yard.row(row.replay_run_id).batch_id == done.batch_id
            (entry,) = audit(yard, letter_id)
            assert (entry.action, entry.reason) == (REPLAYED, "mended")
            assert entry.detail == {"run_id": row.replay_run_id, "batch_id": done.batch_id}
            assert yard.events(row.replay_run_id) == [(None, "PENDING")]
        assert letter(yard, other).replayed_at is None
        assert {wakeup.run_id for wakeup in yard.transport.sent} >= set(made.values())
        assert replay_all(yard, DeadLetterFilters(task="test.divide")).count == 0

    def test_a_rate_spreads_the_runs_by_their_due_time(self, install: Install) -> None:
        yard = install(divide)
        for _ in range(4):
            fail(yard)
        done = replay_all(yard, rate_per_second=0.5)
        assert done.count == 4
        rows = [yard.row(row.replay_run_id) for row in letters(yard)][::-1]
        assert [row.status for row in rows] == ["PENDING"] + ["SCHEDULED"] * 3
        due = [row.scheduled_for for row in rows[1:]]
        gaps = [(later - due[0]).total_seconds() for later in due]
        assert gaps == [0, 2, 4]
        delays = {wakeup.run_id: wakeup.delay_seconds for wakeup in yard.transport.sent}
        assert delays[rows[0].id] == 0
        assert all(delays[row.id] <= 2 * place for place, row in enumerate(rows))
        yard.deliver(rows[3].id)
        assert yard.row(rows[3].id).attempt == 0

    def test_a_rate_that_would_take_years_is_refused(self, install: Install) -> None:
        yard = install(divide)
        for _ in range(2):
            fail(yard)
        with pytest.raises(InvalidOptions) as caught:
            replay_all(yard, rate_per_second=1e-9)
        assert caught.value.errors[0].loc == ("rate_per_second",)
        assert [row.replayed_at for row in letters(yard)] == [None, None]

    def test_what_cannot_be_replayed_is_counted_by_its_reason(self, install: Install) -> None:
        yard = install(divide, refuse, guarded)
        fail(yard)
        fail(yard, "test.refuse")
        fail(yard, "test.guarded")
        archive(yard)
        later = install(divide_text, guarded)
        caller = Somebody(scopes=frozenset())
        expected = {
            "DEAD_LETTER_HAS_NO_RUN": 1,
            "DEAD_LETTER_TASK_NOT_REGISTERED": 1,
            "FORBIDDEN": 1,
        }
        assert replay_all(later, dry_run=True, caller=caller).skipped == expected
        done = replay_all(later, caller=caller)
        assert (done.count, done.batch_id) == (0, None)
        assert done.skipped == {**expected, "INVALID_PARAMS": 1}
        assert all(row.replayed_at is None for row in letters(later))

    def test_more_than_one_chunk(self, install: Install) -> None:
        yard = install(divide)
        copy_letter(yard, fail(yard), CHUNK + 3)
        assert replay_all(yard, dry_run=True).count == CHUNK + 4
        done = replay_all(yard, rate_per_second=100)
        assert done.count == CHUNK + 4
        (total,) = yard.sql("SELECT COUNT(DISTINCT scheduled_for) AS n FROM task_runs")
        assert total.n == CHUNK + 3

    def test_two_at_once_replay_each_letter_once(self, install: Install) -> None:
        yard = install(divide)
        copy_letter(yard, fail(yard), CHUNK + 3)
        many = yard.services.dead_letters.replay_all

        async def race() -> list[ReplayedMany]:
            done = await asyncio.gather(
                *(many(ALL, Somebody(), trace=new_trace()) for _ in range(3))
            )
            await yard.services.outbox.close()
            return done

        assert sum(done.count for done in yard.run(race())) == CHUNK + 4
        (total,) = yard.sql("SELECT COUNT(*) AS n FROM task_runs WHERE batch_id IS NOT NULL")
        assert total.n == CHUNK + 4


class TestDiscard:
    def test_a_discarded_letter_leaves_the_lists_unless_asked_for(self, install: Install) -> None:
        yard = install(divide)
        kept, gone = fail(yard), fail(yard)
        dead_letters = yard.services.dead_letters
        yard.run(dead_letters.discard(gone, Somebody("judge"), reason="of no use"))
        assert [row.id for row in letters(yard)] == [kept]
        (group,) = yard.run(dead_letters.groups(ALL, 200, None, Somebody())).items
        assert group.letters == 1
        (row,) = letters(yard, DeadLetterFilters(states=[LetterState.DISCARDED]))
        assert (row.id, row.discarded_by, row.discard_reason) == (gone, "judge", "of no use")
        (entry,) = audit(yard, gone)
        assert (entry.actor, entry.action, entry.reason) == ("judge", DISCARDED, "of no use")

    def test_the_first_discard_stays(self, install: Install) -> None:
        yard = install(divide)
        letter_id = fail(yard)
        for reason in ("first", "second"):
            yard.run(yard.services.dead_letters.discard(letter_id, Somebody(), reason=reason))
        assert letter(yard, letter_id).discard_reason == "first"
        assert len(audit(yard, letter_id)) == 1

    def test_by_filter_as_counted_before(self, install: Install) -> None:
        yard = install(divide, refuse)
        copy_letter(yard, fail(yard), CHUNK)
        other = fail(yard, "test.refuse")
        filters = DeadLetterFilters(error_type="Fatal")
        discard = yard.services.dead_letters.discard_all
        assert yard.run(discard(filters, Somebody(), reason="x", dry_run=True)) == CHUNK + 1
        assert len(letters(yard)) > 1
        assert yard.run(discard(filters, Somebody(), reason="x")) == CHUNK + 1
        assert [row.id for row in letters(yard)] == [other]
        (total,) = yard.sql("SELECT COUNT(*) AS n FROM audit_log WHERE reason = 'x'")
        assert total.n >= CHUNK + 1

    def test_states_are_open_replayed_and_discarded(self, install: Install) -> None:
        yard = install(divide)
        ids = {state: fail(yard) for state in LetterState}
        replay(yard, ids[LetterState.REPLAYED])
        yard.run(
            yard.services.dead_letters.discard(ids[LetterState.DISCARDED], Somebody(), reason=None)
        )
        for state, letter_id in ids.items():
            assert [row.id for row in letters(yard, DeadLetterFilters(states=[state]))] == [
                letter_id
            ]
        everything = DeadLetterFilters(states=list(LetterState))
        assert {row.id for row in letters(yard, everything)} == set(ids.values())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'nobody'",
        "UPDATE audit_log SET reason = NULL WHERE object_id = :id",
        "DELETE FROM audit_log",
        "DELETE FROM audit_log WHERE object_id = :id",
    ],
)
def test_no_audit_row_is_changed_or_deleted(install: Install, statement: str) -> None:
    yard = install(divide)
    letter_id = fail(yard)
    replay(yard, letter_id)
    with pytest.raises(DBAPIError, match="append-only"):
        yard.sql(statement, **({"id": letter_id} if ":id" in statement else {}))
    assert len(audit(yard, letter_id)) == 1


class TestArchive:
    def test_every_message_is_kept(self, install: Install) -> None:
        yard = install(divide)
        unknown = new_id()
        for body in ("a", "b"):
            archive(yard, run_id=unknown, body=body)
            archive(yard, body=body)
        assert len(letters(yard)) == 4

    def test_the_same_message_twice_is_one_letter(self, install: Install) -> None:
        yard = install(divide)
        unknown = new_id()
        for _ in range(2):
            archive(yard, run_id=unknown, body="a")
        assert len(letters(yard)) == 1

    def test_a_message_of_no_run_that_comes_again_is_one_letter(self, install: Install) -> None:
        yard = install(divide)
        running = yard.submit("test.divide", {"a": 1, "b": 0}).task_id
        for run_id in (None, running):
            archive(yard, run_id=run_id, body="a")
            archive(yard, run_id=run_id, body="a", redelivered=True)
        assert len(letters(yard)) == 2

    def test_equal_messages_are_a_letter_each_and_each_of_them_once(self, install: Install) -> None:
        yard = install(divide)
        for redelivered in (False, False, True, False, True):
            archive(yard, body="a", redelivered=redelivered)
        assert len(letters(yard)) == 3

    def test_a_message_that_came_again_and_was_never_kept_is_kept(self, install: Install) -> None:
        yard = install(divide)
        archive(yard, body="a", redelivered=True)
        archive(yard, body="b", redelivered=True)
        assert len(letters(yard)) == 2

    def test_a_message_beside_a_run_that_ended_is_kept(self, install: Install) -> None:
        yard = install(divide)
        run_id = yard.submit("test.divide", {"a": 1, "b": 1}).task_id
        yard.deliver(run_id)
        archive(yard, run_id=run_id, reason="delivery_limit")
        assert yard.row(run_id).status == "SUCCEEDED"
        (stray,) = letters(yard)
        assert (stray.run_id, stray.error_type) == (None, "delivery_limit")

    def test_a_running_run_can_still_leave_its_own_letter(self, install: Install) -> None:
        yard = install(divide)
        run_id = yard.submit("test.divide", {"a": 1, "b": 0}).task_id
        yard.sql("UPDATE task_runs SET status = 'RUNNING'")
        archive(yard, run_id=run_id, body="forged")
        yard.sql("UPDATE task_runs SET status = 'PENDING'")
        yard.deliver(run_id)
        own = letter(yard, yard.row(run_id).dead_letter_id)
        assert (own.run_id, own.message) == (run_id, None)
        archive(yard, run_id=run_id, body="forged again")
        archive(yard, run_id=run_id, body="its own", is_wakeup=True)
        archive(yard, run_id=run_id, body="forged late")
        assert letter(yard, own.id).message["body"] == "its own"
        assert len(letters(yard)) == 4

    @pytest.mark.parametrize(
        ("forged", "status"),
        [
            ({}, "FAILED"),
            ({"is_wakeup": False}, "PENDING"),
            ({"task": "test.other"}, "PENDING"),
            ({"reason": "failed"}, "PENDING"),
        ],
    )
    def test_only_its_own_message_fails_a_run_that_waits(
        self, install: Install, forged: dict[str, Any], status: str
    ) -> None:
        yard = install(divide)
        run_id = yard.submit("test.divide", {"a": 1, "b": 1}).task_id
        own = {"task": "test.divide", "is_wakeup": True, "reason": "rejected"}
        archive(yard, run_id=run_id, **{**own, **forged})
        assert yard.row(run_id).status == status
        (kept,) = letters(yard)
        assert kept.run_id == (run_id if status == "FAILED" else None)

    def test_a_run_whose_message_was_worn_out_gets_another(self, install: Install) -> None:
        yard = install(divide)
        run_id = yard.submit("test.divide", {"a": 1, "b": 1}).task_id
        worn = {"task": "test.divide", "is_wakeup": True, "reason": "delivery_limit"}
        archive(yard, run_id=run_id, **{**worn, "is_wakeup": False})
        assert yard.row(run_id).published_at is not None
        archive(yard, run_id=run_id, **worn)
        row = yard.row(run_id)
        assert (row.status, row.attempt, row.published_at) == ("PENDING", 0, None)
        assert [kept.run_id for kept in letters(yard)] == [None, None]
        age(yard, run_id, "updated_at")
        yard.transport.sent.clear()
        yard.run(Sweeper(yard.services).sweep())
        assert [wakeup.run_id for wakeup in yard.transport.sent] == [run_id]


class TestRetention:
    def test_a_run_stays_as_long_as_its_letter(self, install: Install) -> None:
        yard = install(divide)
        kept, discarded = fail(yard), fail(yard)
        succeeded = yard.submit("test.divide", {"a": 1, "b": 1}).task_id
        yard.deliver(succeeded)
        ids = [*(letter(yard, one).run_id for one in (kept, discarded)), succeeded]
        yard.run(yard.services.dead_letters.discard(discarded, Somebody(), reason=None))
        for run_id in ids:
            age(yard, run_id, "finished_at")
        assert yard.run(Sweeper(yard.services).sweep())
        left = yard.sql("SELECT id FROM task_runs")
        assert [str(row.id) for row in left] == [ids[0]]
        assert replay(yard, kept).status == "PENDING"
        # The letter of a run that is gone still tells what failed.
        assert letter(yard, discarded).error_type == "Fatal"


def copy_letter(yard: Installation, letter_id: str, times: int) -> None:
    """Put so many copies of a letter, each with a run of its own, beside it."""
    from sqlalchemy import insert, select

    from app.tasks.models import DeadLetter, TaskRun

    async def copy() -> None:
        async with yard.services.databases.begin("postgres_main") as connection:
            one = select(DeadLetter.__table__).where(DeadLetter.id == letter_id)
            row = (await connection.execute(one)).one()
            of = select(TaskRun.__table__).where(TaskRun.id == row.run_id)
            original = (await connection.execute(of)).one()
            runs = [{**original._asdict(), "id": new_id()} for _ in range(times)]
            copies = [{**row._asdict(), "id": new_id(), "run_id": run["id"]} for run in runs]
            await connection.execute(insert(TaskRun), runs)
            await connection.execute(insert(DeadLetter), copies)

    yard.run(copy())


def test_the_errors_are_conflicts() -> None:
    for error in (DeadLetterReplayed, DeadLetterDiscarded, DeadLetterHasNoRun):
        assert issubclass(error, TaskyardError)
        assert error.status == 409
