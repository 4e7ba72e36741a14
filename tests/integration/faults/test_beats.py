"""Two beats: one leads, and when it dies or stands still the other takes over."""

import pytest

from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import Program, Stack
from tests.integration.faults.verdict import judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TASK = "faults.note_effect"


def lease(stack: Stack) -> tuple[str, int]:
    """Return the holder of the sweeper's duty and its term."""
    rows = stack.sql("SELECT holder, term FROM leases WHERE name = 'sweeper'")
    return (str(rows[0][0]), int(rows[0][1])) if rows else ("", 0)


def leader(stack: Stack) -> Program:
    wait_until(lambda: _leading(stack) is not None, "a beat leads")
    found = _leading(stack)
    assert found is not None
    return found


def _leading(stack: Stack) -> Program | None:
    holder = lease(stack)[0]
    beats = [beat for beat in stack.beats if beat.is_running and f":{beat.pid}:" in holder]
    return beats[0] if beats else None


def lose_messages(stack: Stack, count: int) -> list[str]:
    """Return runs whose messages are gone, so that only a sweeper can help them."""
    for worker in stack.workers:
        worker.freeze()
    try:
        runs = [stack.submit(TASK) for _ in range(count)]
        wait_until(lambda: stack.waiting_messages() > 0, "messages wait")
        with stack.channel() as channel:
            channel.queue_purge(stack.topology.broker_queue("default", 5))
    finally:
        for worker in stack.workers:
            worker.thaw()
    return runs


@pytest.mark.parametrize("fate", ["killed", "frozen"])
def test_the_other_beat_takes_over(stack: Stack, fate: str) -> None:
    if len(stack.beats) == 1:
        stack.add_beat()
    first = leader(stack)
    term = lease(stack)[1]
    if fate == "killed":
        first.kill()
    else:
        first.freeze()
    try:
        runs = lose_messages(stack, 8)
        wait_until(lambda: lease(stack)[1] > term, "the term is over")
        assert leader(stack) is not first
        stack.await_all_ended()
    finally:
        if fate == "killed":
            first.start()
        else:
            # The old leader goes on where it stood, in the middle of another's term.
            first.thaw()
    more = lose_messages(stack, 4)
    stack.await_all_ended()
    assert judge(stack, [*runs, *more]).faults == {}
