"""The broker frozen, stopped, robbed of its queues, fed with garbage, and refusing us."""

import pytest

from tests.integration.faults.load import Load
from tests.integration.faults.malformed import run_malformed
from tests.integration.faults.nodes import Rabbit
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import Program, Stack
from tests.integration.faults.verdict import judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
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


Commands = list[tuple[str, ...]]
REFUSALS: dict[str, tuple[Commands, Commands]] = {
    "the password": (
        [("change_password", "guest", "other")],
        [("change_password", "guest", "guest")],
    ),
    # Its queues go with it, and the messages in them.
    "the virtual host": (
        [("delete_vhost", "/")],
        [("add_vhost", "/"), ("set_permissions", "guest", ".*", ".*", ".*")],
    ),
}


@pytest.mark.parametrize("taken", sorted(REFUSALS))
def test_a_broker_that_refuses_us_costs_time_only(stack: Stack, broker: Rabbit, taken: str) -> None:
    pids = {program.pid for program in stack.programs}
    take, give_back = REFUSALS[taken]
    runs = [stack.submit(TASK, {"seconds": 1}) for _ in range(8)]
    try:
        for command in (*take, ("close_all_connections", "a test")):
            broker.control(*command)
        runs += [stack.submit(TASK) for _ in range(3)]
        wait_until(lambda: all(map(is_refused, stack.workers)), "the workers have been refused")
    finally:
        for command in give_back:
            broker.control(*command)
    stack.await_all_ended()
    assert judge(stack, runs).faults == {}
    assert {program.pid for program in stack.programs if program.is_running} == pids
    stack.await_workers()


def test_a_run_longer_than_the_brokers_patience_goes_on(stack: Stack, broker: Rabbit) -> None:
    # 30 minutes and a look each minute, unless somebody says otherwise.
    limits = "application:set_env(rabbit, {}, {}), application:set_env(rabbit, {}, {})."
    names = ("consumer_timeout", "channel_tick_interval")
    broker.control("eval", limits.format(names[0], 3000, names[1], 500))
    pids = {program.pid for program in stack.programs}
    try:
        # A channel keeps the limits that it was opened with.
        broker.control("close_all_connections", "a test")
        stack.await_workers()
        run_id = stack.submit(TASK, {"seconds": 6})
        stack.await_status(run_id, "SUCCEEDED", "FAILED")
    finally:
        broker.control("eval", limits.format(names[0], 1_800_000, names[1], 60_000))
        broker.control("close_all_connections", "a test")
    log = "".join(worker.told for worker in stack.workers)
    assert "delivery acknowledgement on channel" in log, "the broker has not lost its patience"
    stack.await_workers()
    after = stack.submit(TASK)
    assert stack.await_status(after, "SUCCEEDED", "FAILED") == "SUCCEEDED"
    verdict = judge(stack, [run_id, after])
    assert (verdict.faults, verdict.started_again) == ({}, 0), (verdict, stack.folder)
    assert {program.pid for program in stack.programs if program.is_running} == pids


def is_refused(worker: Program) -> bool:
    """Return whether the last that the worker tells of its connection is a refusal."""
    lines = worker.told.splitlines()
    told = [line for line in lines if "consumer: Cannot connect" in line or "Connected to" in line]
    return "Cannot connect" in told[-1]


def test_no_message_ends_a_worker_or_disappears(stack: Stack) -> None:
    report = run_malformed(stack, count=22, seed=SEED)
    assert report.kept == report.sent == 22
    assert (report.worker_exits, report.child_exits) == (0, 0)
    assert report.forged_ran_once
    assert report.works_afterwards
