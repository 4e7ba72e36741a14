"""A replay by filter that breaks off, that feeds on itself, or that no broker hears of."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import insert, select

from app.common.ids import new_id
from app.common.tracing import new_trace
from app.config.settings import APPLICATION_BIND
from app.tasks.dead_letters import DeadLetters
from app.tasks.models import DeadLetter
from app.tasks.outbox import Outbox
from app.tasks.replay_batches import CHUNK, ReplayedMany
from app.tasks.replaying import ReplayMaker
from app.tasks.requests import NewRun
from app.tasks.sweeper import Sweeper
from app.tasks.transport import Wakeup
from tests.contract.tasks.conftest import Install
from tests.contract.tasks.test_dead_letters import (
    ALL,
    copy_letter,
    divide,
    fail,
    letters,
    replay,
    replay_all,
)
from tests.contract.tasks.test_run_life import age
from tests.harness import Installation, Somebody


class BreakingMaker(ReplayMaker):
    """Loses its process, as it were, in the middle of the second chunk."""

    made = 0

    def make(self, *arguments: Any, **more: Any) -> NewRun:
        self.made += 1
        if self.made > CHUNK + 1:
            raise ConnectionResetError
        return super().make(*arguments, **more)


class FailingOutbox(Outbox):
    """Each run fails as soon as it is sent and leaves a letter like the first one."""

    def __init__(self, yard: Installation) -> None:
        super().__init__(yard.services.databases, yard.transport)
        self._yard = yard
        self.failed = 0

    def offer(self, wakeups: Sequence[Wakeup]) -> None:
        databases = self._yard.services.databases
        with databases.sync_begin(APPLICATION_BIND) as connection:
            one = connection.execute(select(DeadLetter.__table__).limit(1)).one()
            fresh = {**one._asdict(), "replayed_at": None, "replay_run_id": None}
            del fresh["created_at"]
            rows = [{**fresh, "id": new_id(), "run_id": wakeup.run_id} for wakeup in wakeups]
            connection.execute(insert(DeadLetter), rows)
        self.failed += len(rows)


def service(
    yard: Installation, maker: type[ReplayMaker] = ReplayMaker, outbox: Outbox | None = None
) -> DeadLetters:
    whole = yard.services
    made = maker(whole.catalogue, whole.maker)
    return DeadLetters(whole.databases, made, outbox or whole.outbox, whole.settings)


def test_a_call_that_breaks_off_is_repeated_for_the_rest(install: Install) -> None:
    yard = install(divide)
    copy_letter(yard, fail(yard), CHUNK + 9)
    breaking = service(yard, BreakingMaker)

    async def break_off() -> None:
        with pytest.raises(ConnectionResetError):
            await breaking.replay_all(ALL, Somebody(), trace=new_trace())
        await yard.services.outbox.close()

    yard.run(break_off())
    runs = yard.sql("SELECT id FROM task_runs WHERE batch_id IS NOT NULL")
    assert len(runs) == CHUNK
    assert {wakeup.run_id for wakeup in yard.transport.sent} >= {str(run.id) for run in runs}
    assert replay_all(yard).count == 10
    assert all(row.replayed_at is not None for row in letters(yard))
    (made,) = yard.sql("SELECT COUNT(*) AS n FROM task_runs WHERE replay_of IS NOT NULL")
    assert made.n == CHUNK + 10


def test_what_fails_again_meanwhile_is_left_for_the_next_call(install: Install) -> None:
    yard = install(divide)
    copy_letter(yard, fail(yard), CHUNK + 9)
    outbox = FailingOutbox(yard)
    dead_letters = service(yard, outbox=outbox)

    async def accept() -> ReplayedMany:
        return await dead_letters.replay_all(ALL, Somebody(), trace=new_trace())

    assert yard.run(accept()).count == CHUNK + 10
    assert outbox.failed == CHUNK + 10
    assert replay_all(yard, dry_run=True).count == CHUNK + 10


def test_a_replay_waits_in_its_row_while_the_broker_is_away(install: Install) -> None:
    yard = install(divide)
    letter_id = fail(yard)
    yard.transport.confirms = False
    run_id = replay(yard, letter_id).task_id
    assert yard.row(run_id).published_at is None
    yard.transport.confirms = True
    age(yard, run_id, "updated_at")
    assert yard.run(Sweeper(yard.services).sweep())
    assert yard.transport.sent[-1].run_id == run_id
    yard.deliver(run_id)
    assert yard.row(run_id).attempt == 1
