"""Idempotency keys as a state machine: any order of requests, retries, crashes and expiries."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app import register_task
from app.tasks.errors import IdempotencyKeyReused
from tests.contract.machines import bounded
from tests.harness import Installation, Somebody
from tests.harness import _long_ago as long_ago

Install = Callable[..., Installation]

# Keys, callers and bodies are few, so that they meet.
KEYS = st.sampled_from(["k-1", "k-2"])
CALLERS = st.sampled_from([Somebody("ann"), Somebody("ann", tenant="acme"), Somebody("bob")])
BODIES = st.integers(0, 1)
Slot = tuple[str | None, str, str]


@register_task("test.count")
async def count(number: int) -> int:
    """Return the number."""
    return number


class KeyMachine(RuleBasedStateMachine):
    """Clients that send the same request again, and others that take a key for something else."""

    def __init__(self, yard: Installation) -> None:
        super().__init__()
        self.yard = yard
        # What a key stands for while it lives: the body and the run.
        self.known: dict[Slot, tuple[int, str]] = {}
        self.runs: set[str] = set()
        for table in ("task_runs", "idempotency_keys"):
            yard.sql(f"DELETE FROM {table}")

    @rule(caller=CALLERS, key=KEYS, body=BODIES)
    def ask(self, caller: Somebody, key: str, body: int) -> None:
        slot = (caller.tenant, caller.id, key)
        earlier = self.known.get(slot)
        try:
            answer = self.submit(caller, body, key)
        except IdempotencyKeyReused:
            assert earlier is not None
            assert earlier[0] != body
            return
        if earlier is None:
            assert not answer.replayed
            assert answer.task_id not in self.runs
            self.known[slot] = (body, answer.task_id)
            self.runs.add(answer.task_id)
        else:
            assert earlier == (body, answer.task_id)
            assert answer.replayed

    @rule(caller=CALLERS, body=BODIES)
    def ask_without_a_key(self, caller: Somebody, body: int) -> None:
        answer = self.submit(caller, body, None)
        assert not answer.replayed
        assert answer.task_id not in self.runs
        self.runs.add(answer.task_id)

    @precondition(lambda self: self.known)
    @rule(choice=st.integers(0, 99))
    def end_the_run(self, choice: int) -> None:
        """The answer stays the first one, whatever becomes of the run."""
        slots = sorted(self.known, key=repr)
        self.yard.deliver(self.known[slots[choice % len(slots)]][1])

    @rule()
    def expire(self) -> None:
        then = "2001-01-01 00:00:00.000000" if self.yard.is_sqlite else long_ago()
        self.yard.sql("UPDATE idempotency_keys SET expires_at = :then", then=then)
        self.known.clear()

    @invariant()
    def there_is_one_run_for_each_accepted_request(self) -> None:
        rows = [str(row.id) for row in self.yard.sql("SELECT id FROM task_runs")]
        assert sorted(rows) == sorted(self.runs)

    @invariant()
    def each_living_key_has_its_row(self) -> None:
        (row,) = self.yard.sql(
            "SELECT count(*) FROM idempotency_keys WHERE expires_at > '2020-01-01'"
        )
        assert row[0] == len(self.known)

    def submit(self, caller: Somebody, body: int, key: str | None) -> Any:
        return self.yard.submit("test.count", {"number": body}, caller=caller, idempotency_key=key)


def test_any_order_of_requests_makes_one_run_for_each_key(install: Install) -> None:
    yard = install(count)

    class Keys(KeyMachine):
        def __init__(self) -> None:
            super().__init__(yard)

    run_state_machine_as_test(Keys, settings=bounded(examples=25, steps=25))
