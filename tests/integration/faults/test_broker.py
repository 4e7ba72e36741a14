"""The broker frozen, stopped, robbed of its queues, fed with garbage, behind a bad line."""

from collections.abc import Iterator

import pytest

from tests.integration.faults.load import Load
from tests.integration.faults.malformed import run_malformed
from tests.integration.faults.nodes import Kit, Postgres, Rabbit
from tests.integration.faults.processes import wait_until
from tests.integration.faults.proxy import Fault, Proxy
from tests.integration.faults.stack import Stack
from tests.integration.faults.verdict import judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SEED = 11
TASK = "faults.note_effect"


@pytest.mark.parametrize("how", ["frozen", "stopped", "in alarm"])
def test_every_request_is_accepted_while_the_broker_is_away(
    stack: Stack, broker: Rabbit, how: str
) -> None:
    match how:
        case "frozen":
            broker.freeze()
        case "stopped":
            broker.stop()
        case _:
            # Publishers are held back, as when its memory is full.
            broker.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        answers = Load(stack, TASK, count=100, rate=25, seed=SEED).start().join()
    finally:
        match how:
            case "frozen":
                broker.thaw()
            case "stopped":
                broker.start()
            case _:
                broker.control("set_vm_memory_high_watermark", "0.4")
    assert answers.others == {}
    stack.await_all_ended()
    assert judge(stack, answers.accepted).faults == {}


@pytest.mark.parametrize("how", ["purged", "deleted"])
def test_a_queue_that_is_emptied_behind_our_back_costs_time_only(stack: Stack, how: str) -> None:
    for worker in stack.workers:
        worker.freeze()  # Else they are faster than the purge.
    try:
        runs = [stack.submit(TASK) for _ in range(10)]
        wait_until(lambda: stack.waiting_messages() >= 2, "messages wait")
        with stack.channel() as channel:
            queue = stack.topology.broker_queue("default", 5)
            if how == "purged":
                channel.queue_purge(queue)
            else:
                channel.queue_delete(queue)
    finally:
        for worker in stack.workers:
            worker.thaw()
    stack.await_all_ended()
    assert judge(stack, runs).faults == {}
    stack.await_workers()


def test_no_message_ends_a_worker_or_disappears(stack: Stack) -> None:
    report = run_malformed(stack, count=22, seed=SEED)
    assert report.kept == report.sent == 22
    assert (report.worker_exits, report.child_exits) == (0, 0)
    assert report.forged_ran_once
    assert report.works_afterwards


@pytest.fixture
def line(broker: Rabbit) -> Iterator[Proxy]:
    with Proxy(broker.port, seed=SEED) as opened:
        yield opened


def test_a_bad_line_to_the_broker_costs_time_only(
    kit: Kit, postgres: Postgres, line: Proxy
) -> None:
    far = Stack(kit, postgres, broker_url=f"amqp://guest:guest@127.0.0.1:{line.port}//")
    try:
        far.start(workers=2)
        line.fault = Fault(latency_seconds=0.05, jitter_seconds=0.03)
        answers = Load(far, TASK, count=100, rate=20, seed=SEED).start()
        for _ in range(3):
            wait_until(lambda: len(far.starts()) > 0, "runs start")
            line.reset()
        line.fault = Fault(cut_after_bytes=20_000, latency_seconds=0.02)
        accepted = answers.join().accepted
        line.fault = Fault(black_hole=True)
        accepted += [far.submit(TASK) for _ in range(5)]
        line.heal()
        assert answers.answers.others == {}
        far.await_all_ended()
        assert judge(far, accepted).faults == {}
    finally:
        far.end()
