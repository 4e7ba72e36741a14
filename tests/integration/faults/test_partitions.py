"""Servers behind a bad network, not there yet, frozen, or out of reach for one worker alone."""

from collections.abc import Iterator
from typing import Final

import httpx2 as httpx
import pytest

from tests.integration.faults.load import Load
from tests.integration.faults.network import Line, NetworkPlan, run_network
from tests.integration.faults.nodes import Kit, Postgres, Rabbit
from tests.integration.faults.processes import wait_until
from tests.integration.faults.proxy import Fault, Proxy
from tests.integration.faults.stack import QUICK, Program, Stack
from tests.integration.faults.verdict import judge
from tests.integration.faults.zombies import LOST_LEASE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEED: Final = 19
TASK: Final = "faults.note_effect"
DATABASE: Final = "TASKYARD_DATABASES__POSTGRES_MAIN__URL"
# What a deployment waits for longer.
IMPATIENT: Final = {
    "TASKYARD_DATABASES__POSTGRES_MAIN__STATEMENT_TIMEOUT_SECONDS": "2",
    "TASKYARD_DATABASES__POSTGRES_MAIN__CONNECT_TIMEOUT_SECONDS": "2",
}


@pytest.fixture(scope="module")
def line(postgres: Postgres) -> Iterator[Proxy]:
    with Proxy(postgres.port, seed=SEED) as opened:
        yield opened


@pytest.fixture(scope="module")
def broker_line(broker: Rabbit) -> Iterator[Proxy]:
    with Proxy(broker.port, seed=SEED) as opened:
        yield opened


@pytest.fixture(scope="module")
def stack(
    kit: Kit, postgres: Postgres, broker: Rabbit, line: Proxy, broker_line: Proxy
) -> Iterator[Stack]:
    """An installation that reaches its database and its broker over the lines."""
    opened = Stack(
        kit,
        postgres,
        broker_url=broker.url_at(broker_line.port),
        database_port=line.port,
        settings={**QUICK, **IMPATIENT},
    )
    try:
        opened.start(workers=1)
        yield opened
    finally:
        opened.end()


def test_a_bad_network_costs_time_only(stack: Stack, line: Proxy, broker_line: Proxy) -> None:
    lines = [
        Line(line, Fault(latency_seconds=0.01, jitter_seconds=0.005)),
        Line(broker_line, Fault(latency_seconds=0.05, jitter_seconds=0.03)),
    ]
    plan = NetworkPlan(
        runs=150,
        rate=15,
        resets=8,
        holes=1,
        hole_seconds=3,
        cut_after_bytes=30_000,
        seed=SEED,
        patience_seconds=240,
    )
    report = run_network(stack, lines, plan)
    assert report.verdict.faults == {}, (report, stack.folder)
    assert report.verdict.accepted == plan.runs
    assert set(report.answers) <= {"503", "409"}, report


def test_a_frozen_database_is_told_and_costs_time_only(stack: Stack, postgres: Postgres) -> None:
    load = Load(stack, TASK, count=60, rate=20, seed=SEED).start()
    wait_until(lambda: len(stack.starts()) > 5, "runs start")
    postgres.freeze()
    try:
        wait_until(lambda: code_of(stack, "/readyz") == 503, "the API says that it is not ready")
        assert code_of(stack, "/livez") == 200
    finally:
        postgres.thaw()
    answers = load.join()
    stack.await_all_ended()
    verdict = judge(stack, answers.accepted)
    assert verdict.faults == {}, (verdict, stack.folder)
    assert set(answers.others) <= {"503", "409"}, answers.others
    wait_until(lambda: code_of(stack, "/readyz") == 200, "the API is ready again")


def test_what_starts_before_its_servers_waits_for_them(
    stack: Stack, line: Proxy, broker_line: Proxy
) -> None:
    for worker in stack.workers:
        worker.end()
    early = stack.submit(TASK)
    wait_until(lambda: stack.waiting_messages() > 0, "its message waits")
    programs = (stack.api, *stack.workers, *stack.beats)
    for program in programs:
        program.end()
    broker_line.refuse()
    line.refuse()
    for program in programs:
        program.start()
    pids = {program.pid for program in programs}
    for program in (*stack.workers, *stack.beats):
        wait_until(lambda: has_failed_to_connect(program), f"see {program.log}")  # noqa: B023 - called in this turn
    wait_until(stack.api_answers, f"the API is alive, see {stack.api.log}")
    assert code_of(stack, "/readyz") == 503
    broker_line.accept()
    # Now the message comes, and nobody can tell what it is about.
    stack.await_workers()
    line.accept()
    wait_until(lambda: code_of(stack, "/readyz") == 200, "the API is ready")
    late = stack.submit(TASK)
    stack.await_all_ended()
    assert judge(stack, [early, late]).faults == {}
    assert {program.pid for program in programs if program.is_running} == pids


def test_a_worker_that_reaches_the_broker_alone_writes_nothing(
    stack: Stack, postgres: Postgres, line: Proxy
) -> None:
    url = stack.environ[DATABASE].replace(f":{line.port}/", f":{postgres.port}/")
    (cut_off,) = stack.workers
    for program in (stack.api, *stack.beats):
        program.restart(**{DATABASE: url})
    wait_until(stack.api_answers, "the API answers")
    held = stack.submit(TASK, {"seconds": 6})
    wait_until(lambda: bool(stack.starts()), "it has begun")
    line.fault = Fault(black_hole=True)
    try:
        # It takes messages and cannot ask about them.
        more = [stack.submit(TASK) for _ in range(4)]
        stack.add_worker(**{DATABASE: url})
        wait_until(lambda: starts_of(stack, held) == 2, "another worker has taken its run over")
        stack.await_all_ended()
    finally:
        line.heal()
    wait_until(lambda: LOST_LEASE in cut_off.told, "the first one was told that it is late")
    verdict = judge(stack, [held, *more])
    assert verdict.faults == {}, (verdict, stack.folder)
    assert stack.attempt(held) == 2
    stack.workers.pop().end()
    after = stack.submit(TASK)
    assert stack.await_status(after, "SUCCEEDED", "FAILED") == "SUCCEEDED"


def code_of(stack: Stack, path: str) -> int:
    return httpx.get(f"{stack.url}{path}", timeout=30).status_code


def has_failed_to_connect(program: Program) -> bool:
    return "Connection refused" in program.told or "does not answer" in program.told


def starts_of(stack: Stack, run_id: str) -> int:
    return sum(run == run_id for run, *_ in stack.starts())
