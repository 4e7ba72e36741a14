"""The life of a run as a state machine: any order of what can happen, against a model.

The model is a few plain fields for each run. After every step the rows, the events and the dead
letters have to say the same, and the invariants of DESIGN hold: one end, a fence that only grows,
attempts within their bound, a dead letter exactly when the run failed, a lease exactly while it
runs. The order of steps is derived from the test's name, so a failure comes again.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.engine import Row

from app import Fatal, TaskContext, register_task
from app.common.errors import TaskyardError
from app.common.tracing import new_trace
from app.tasks.errors import RunHasEnded, StaleAttempt
from app.tasks.losses import WorkerLost, give_back, record_loss
from app.tasks.outcomes import Told, failed, record, succeeded
from app.tasks.results import EncodedResult
from app.tasks.statuses import ENDED
from app.tasks.sweeper import Sweeper
from app.tasks.transitions import CLAIM, apply
from tests.contract.machines import bounded
from tests.harness import Installation, Somebody
from tests.harness import _long_ago as long_ago

Install = Callable[..., Installation]
MOST_RUNS = 2
TABLES = ("task_runs", "dead_letters", "idempotency_keys", "leases")


class Script:
    """What the task does at its next call."""

    ending = "succeeds"


@register_task("test.obey", max_attempts=3, backoff_seconds=1)
async def obey(ctx: TaskContext) -> int:
    """Do as the script says."""
    if Script.ending == "fails":
        raise ValueError(Script.ending)
    if Script.ending == "fails for good":
        raise Fatal(Script.ending)
    return ctx.attempt


@dataclass
class Attempt:
    """A claim that somebody holds, or believes to hold."""

    claim: Row[Any]
    owner: str


@dataclass
class Model:
    """What a run should be."""

    run_id: str
    max_attempts: int
    status: str = "PENDING"
    attempt: int = 0
    fence: int = 0
    owner: str | None = None
    is_silent: bool = False
    is_cancelled: bool = False
    has_letter: bool = False
    is_replayed: bool = False
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def can_be_claimed(self) -> bool:
        waits = self.status in ("PENDING", "RETRYING") or self.is_silent
        return waits and self.attempt < self.max_attempts and not self.is_cancelled

    def start(self, owner: str) -> None:
        self.status, self.owner, self.is_silent = "RUNNING", owner, False
        self.attempt += 1
        self.fence += 1

    def end_attempt(self, status: str) -> None:
        self.status, self.owner, self.is_silent = status, None, False
        if status == "RETRYING" and self.is_cancelled:
            self.status = "CANCELLED"
        self.has_letter |= self.status == "FAILED"

    def end_as(self, ending: str) -> None:
        """A worker's outcome for the attempt that runs."""
        if ending == "succeeds":
            self.end_attempt("SUCCEEDED")
        elif ending == "fails" and self.attempt < self.max_attempts:
            self.end_attempt("RETRYING")
        else:
            self.end_attempt("FAILED")

    def lose(self) -> None:
        """Somebody else speaks for the attempt: its process is gone or silent."""
        self.fence += 1
        if self.is_cancelled:
            self.end_attempt("CANCELLED")
        else:
            self.end_attempt("RETRYING" if self.attempt < self.max_attempts else "FAILED")


ENDINGS = st.sampled_from(["succeeds", "fails", "fails for good"])
CHOICE = st.integers(min_value=0, max_value=10**6)


class RunMachine(RuleBasedStateMachine):
    """Everything that clients, workers, the broker, the sweeper and accidents do to runs."""

    def __init__(self, yard: Installation, old: Installation) -> None:
        super().__init__()
        self.yard = yard
        self.old = old
        self.runs: list[Model] = []
        self.owners = 0
        for table in TABLES:
            yard.sql(f"DELETE FROM {table}")
        for installation in (yard, old):
            installation.transport.sent.clear()
        self.turn(is_up=True)
        self.sweeper = Sweeper(yard.services)

    # Clients.

    @precondition(lambda self: len(self.runs) < MOST_RUNS)
    @rule(max_attempts=st.integers(1, 3))
    def submit(self, max_attempts: int) -> None:
        accepted = self.yard.submit("test.obey", options={"max_attempts": max_attempts})
        self.runs.append(Model(accepted.task_id, max_attempts))

    @precondition(lambda self: self.runs)
    @rule(choice=CHOICE)
    def cancel(self, choice: int) -> None:
        run = self.pick(choice)
        try:
            self.yard.run(self.yard.services.runs.cancel(run.run_id, Somebody()))
        except RunHasEnded:
            assert run.status in ENDED
            return
        assert run.status not in ENDED
        run.is_cancelled = True
        if run.status != "RUNNING":
            run.status = "CANCELLED"

    @precondition(lambda self: any(run.has_letter for run in self.runs))
    @rule(choice=CHOICE)
    def replay(self, choice: int) -> None:
        failures = [run for run in self.runs if run.has_letter]
        run = failures[choice % len(failures)]
        letter_id = self.yard.row(run.run_id).dead_letter_id
        replaying = self.yard.services.dead_letters.replay(letter_id, Somebody(), trace=new_trace())
        try:
            again = self.yard.run(replaying)
        except TaskyardError as error:
            assert run.is_replayed, error  # noqa: PT017 - the other way is the rule's normal one
            return
        assert again.replayed == run.is_replayed
        if not run.is_replayed:
            run.is_replayed = True
            self.runs.append(Model(again.task_id, self.yard.row(again.task_id).max_attempts))

    # Workers.

    @precondition(lambda self: self.runs)
    @rule(choice=CHOICE, ending=ENDINGS)
    def deliver(self, choice: int, ending: str) -> None:
        """A message comes, perhaps for the tenth time."""
        run = self.pick(choice)
        self.make_due(run)
        Script.ending = ending
        self.yard.deliver(run.run_id)
        if run.can_be_claimed:
            run.start("executor")
            run.end_as(ending)

    @precondition(lambda self: self.runs)
    @rule(choice=CHOICE)
    def begin(self, choice: int) -> None:
        """A worker claims a run and is busy with it."""
        run = self.pick(choice)
        self.make_due(run)
        self.owners += 1
        owner = f"worker-{self.owners}:1"
        values = {"run_id": run.run_id, "worker": owner, "lease_seconds": 60.0}
        claim = self.yard.run(apply(self.yard.services.databases, CLAIM, values))
        assert (claim is not None) == run.can_be_claimed
        if claim is not None:
            run.start(owner)
            run.attempts.append(Attempt(claim, owner))

    @precondition(lambda self: self.runs)
    @rule(choice=CHOICE, ending=ENDINGS)
    def overtake(self, choice: int, ending: str) -> None:
        """A worker goes silent, another one takes its run, and the first one comes back."""
        self.begin(choice=choice)
        self.go_silent(choice=choice)
        self.begin(choice=choice)
        run = self.pick(choice)
        for attempt in run.attempts[-2:]:
            self.end(run, attempt, ending)

    @precondition(lambda self: self.attempts())
    @rule(choice=CHOICE, ending=ENDINGS)
    def finish(self, choice: int, ending: str) -> None:
        """Any attempt that ever began records its end, most of them too late."""
        self.end(*self.pick_attempt(choice), ending)

    def end(self, run: Model, attempt: Attempt, ending: str) -> None:
        holds = run.status == "RUNNING" and run.fence == attempt.claim.fence
        error = Fatal("x") if ending == "fails for good" else ValueError("x")
        outcome = (
            succeeded(EncodedResult(value=1), Told(), [])
            if ending == "succeeds"
            else failed(attempt.claim, error, (Exception,), Told())
        )
        databases = self.yard.services.databases
        try:
            self.yard.run(record(databases, attempt.claim, outcome, {}, "worker"))
        except StaleAttempt:
            assert not holds
            return
        assert holds
        run.end_as(ending)

    @precondition(lambda self: self.attempts())
    @rule(choice=CHOICE, dies=st.booleans())
    def leave(self, choice: int, dies: bool) -> None:
        """A worker's main process speaks for an attempt: its process died, or the worker stops."""
        run, attempt = self.pick_attempt(choice)
        databases = self.yard.services.databases
        holds = run.status == "RUNNING" and run.owner == attempt.owner
        if dies:
            assert record_loss(databases, run.run_id, attempt.owner, WorkerLost("x")) == holds
        else:
            assert give_back(databases, run.run_id, attempt.owner) == holds
        if holds and dies:
            run.lose()
        elif holds:
            run.fence += 1
            run.attempt -= 1
            status = "CANCELLED" if run.is_cancelled else "RETRYING" if run.attempt else "PENDING"
            run.end_attempt(status)

    @precondition(lambda self: self.runs)
    @rule(choice=CHOICE)
    def meet_old_code(self, choice: int) -> None:
        """A message reaches a worker that has no code for the task."""
        run = self.pick(choice)
        self.make_due(run)
        self.old.executor.execute_unknown(self.old.runner, run.run_id, "test.obey")
        if run.can_be_claimed:
            run.start("old")
            run.attempt -= 1
            run.end_attempt("RETRYING")

    # Accidents and what mends them.

    @rule(is_up=st.booleans())
    def turn_broker(self, is_up: bool) -> None:
        self.turn(is_up=is_up)

    @precondition(lambda self: self.runs)
    @rule(choice=CHOICE)
    def go_silent(self, choice: int) -> None:
        """The lease of a run ends, because nobody beats it any more."""
        run = self.pick(choice)
        if run.status == "RUNNING":
            self.yard.lose_lease(run.run_id)
            run.is_silent = True

    @rule()
    def sweep(self) -> None:
        self.take_sweep()

    def take_sweep(self) -> None:
        self.age("updated_at")
        assert self.yard.run(self.sweeper.sweep())
        for run in self.runs:
            if run.is_silent:
                run.lose()

    # What always holds.

    @invariant()
    def rows_are_as_the_model(self) -> None:
        rows = {str(row.id): row for row in self.yard.sql("SELECT * FROM task_runs")}
        assert set(rows) == {run.run_id for run in self.runs}
        for run in self.runs:
            row = rows[run.run_id]
            assert (row.status, row.attempt, row.fence) == (run.status, run.attempt, run.fence)
            assert 0 <= row.attempt <= row.max_attempts
            assert (row.lease_owner is not None) == (run.status == "RUNNING")
            assert (row.finished_at is not None) == (run.status in ENDED)
            assert (row.dead_letter_id is not None) == (run.status == "FAILED")

    @invariant()
    def a_letter_stands_for_each_failure(self) -> None:
        letters = [str(row[0]) for row in self.yard.sql("SELECT run_id FROM dead_letters")]
        assert sorted(letters) == sorted(run.run_id for run in self.runs if run.has_letter)

    @invariant()
    def events_lead_to_one_end(self) -> None:
        told: dict[str, list[tuple[str | None, str]]] = {run.run_id: [] for run in self.runs}
        for row in self.yard.sql(
            "SELECT run_id, from_status, to_status FROM task_run_events ORDER BY id"
        ):
            told[str(row.run_id)].append((row.from_status, row.to_status))
        for run in self.runs:
            moves = told[run.run_id]
            assert [before for before, _ in moves] == [None, *(after for _, after in moves[:-1])]
            assert moves[-1][1] == run.status
            assert sum(after in ENDED for _, after in moves) == (run.status in ENDED)

    def teardown(self) -> None:
        """Whatever has happened: with a broker, a sweeper and a worker every run ends."""
        self.turn(is_up=True)
        for run in self.runs:
            if run.status == "RUNNING":
                self.yard.lose_lease(run.run_id)
                run.is_silent = True
        self.take_sweep()
        wakeups = [*self.yard.transport.sent, *self.old.transport.sent]
        on_broker = {(wakeup.run_id, wakeup.fence) for wakeup in wakeups}
        Script.ending = "succeeds"
        for run in self.runs:
            if run.status not in ENDED:
                # The message of this very wait, sent by whoever began it or by the sweeper.
                assert (run.run_id, run.fence) in on_broker
            self.make_due(run)
            self.yard.deliver(run.run_id)
            assert self.yard.row(run.run_id).status in ENDED

    # Parts.

    def pick(self, choice: int) -> Model:
        return self.runs[choice % len(self.runs)]

    def attempts(self) -> list[tuple[Model, Attempt]]:
        return [(run, attempt) for run in self.runs for attempt in run.attempts]

    def pick_attempt(self, choice: int) -> tuple[Model, Attempt]:
        attempts = self.attempts()
        return attempts[choice % len(attempts)]

    def make_due(self, run: Model) -> None:
        if run.status == "RETRYING":
            self.age("scheduled_for")

    def age(self, column: str) -> None:
        then = "2001-01-01 00:00:00.000000" if self.yard.is_sqlite else long_ago()
        self.yard.sql(f"UPDATE task_runs SET {column} = :then", then=then)

    def turn(self, *, is_up: bool) -> None:
        for installation in (self.yard, self.old):
            installation.transport.confirms = is_up


@pytest.mark.timeout(300)
def test_any_order_of_events_keeps_the_promises(install: Install) -> None:
    yard, old = install(obey), install()

    class Runs(RunMachine):
        def __init__(self) -> None:
            super().__init__(yard, old)

    run_state_machine_as_test(Runs, settings=bounded(examples=40, steps=25))
