"""The rows of the guarantees at full size; each returns its lines of the table."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from scripts.chaos_lib.recoveries import RECOVERIES
from scripts.chaos_lib.report import Row
from scripts.chaos_lib.yard import Yard
from tests.integration.faults.cancels import run_cancels
from tests.integration.faults.deliveries import run_deliveries
from tests.integration.faults.kills import KillPlan, run_kills
from tests.integration.faults.malformed import run_malformed
from tests.integration.faults.network import Line, NetworkPlan, run_network
from tests.integration.faults.outage import run_outage
from tests.integration.faults.proxy import Fault, Proxy
from tests.integration.faults.rolling import run_rolling
from tests.integration.faults.schedule_firings import run_schedule_firings
from tests.integration.faults.stack import QUICK, ROOT
from tests.integration.faults.verdict import Verdict
from tests.integration.faults.zombies import run_zombies

_SIX_MINUTES: Final = 360.0


def kills(yard: Yard) -> Iterator[Row]:
    """Yield the row of random kills."""
    runs = yard.of(10_000)
    plan = KillPlan(
        runs=runs,
        rate=80.0,
        kills=yard.of(20),
        over_seconds=runs / 80.0,
        seed=yard.seed,
        patience_seconds=2 * _SIX_MINUTES,
    )
    with yard.stack(workers=2) as stack:
        report = run_kills(stack, yard.postgres, yard.broker, plan)
    struck = ", ".join(f"{count} x {kind}" for kind, count in sorted(report.killed.items()))
    yield Row(
        f"{runs:,} tasks of 20 ms, 2 workers x 2, {plan.kills} random `kill -9`, "
        "1 of RabbitMQ, 1 immediate restart of Postgres",
        "0 lost, 0 recorded twice, 0 stuck, one effect per run, within 6 minutes",
        f"{told(report.verdict)}; {report.verdict.started_again} started more than once; "
        f"{report.seconds:.0f} s; struck: {struck}",
        met=not report.verdict.faults
        and report.verdict.accepted == runs
        and report.seconds <= _SIX_MINUTES,
    )


def zombies(yard: Yard) -> Iterator[Row]:
    """Yield the row of frozen workers; the lease is 3 s here, so that a freeze outlasts it."""
    cycles = yard.of(200)
    with yard.stack(workers=6, concurrency=1, settings=QUICK) as stack:
        report = run_zombies(stack, cycles=cycles, at_once=4, seed=yard.seed)
    yield Row(
        f"{cycles} freeze and thaw cycles of workers in the middle of runs (lease 3 s)",
        "0 writes with an old fence",
        f"{report.verdict.stale_writes} such writes, {report.refused_writes} refused; "
        f"{told(report.verdict)}; {report.with_runs_taken} of {report.cycles} cycles took "
        f"runs away; {report.seconds:.0f} s",
        met=not report.verdict.faults and report.with_runs_taken == cycles,
    )


def outage(yard: Yard) -> Iterator[Row]:
    """Yield the row of two minutes without a broker."""
    away_seconds = 120 * yard.scale
    with yard.stack(workers=2) as stack:
        report = run_outage(
            stack,
            yard.broker,
            rate=50,
            up_seconds=away_seconds / 2,
            away_seconds=away_seconds,
            seed=yard.seed,
        )
    up, away = report.up, report.away
    yield Row(
        f"broker stopped for {away_seconds:.0f} s at 50 requests/s",
        "every answer 202, all finished afterwards",
        f"{len(away.accepted):,} x 202, others: {away.others or 'none'}; p50 / p99 of the "
        f"answers {_ms(away.quantile(0.5))} / {_ms(away.quantile(0.99))} ms, with the broker up "
        f"{_ms(up.quantile(0.5))} / {_ms(up.quantile(0.99))} ms; {told(report.verdict)}; all "
        f"finished {report.drained_seconds:.0f} s after the broker was back",
        met=not report.verdict.faults and not away.others,
    )


def deliveries(yard: Yard) -> Iterator[Row]:
    """Yield the row of runs that are delivered five times."""
    runs = yard.of(1000)
    # The row itself starts the workers, when all copies wait for them.
    with yard.stack(workers=0) as stack:
        report = run_deliveries(stack, runs=runs, copies=5, workers=4, seed=yard.seed)
    yield Row(
        f"one run delivered 5 times, x {runs:,}, to 4 workers",
        f"{runs:,} starts",
        f"{report.starts:,} starts of {report.messages:,} messages, {report.started_twice} runs "
        f"started twice; {told(report.verdict)}; {report.seconds:.0f} s",
        met=report.starts == runs and not report.verdict.faults,
    )


def cancels(yard: Yard) -> Iterator[Row]:
    """Yield the row of cancels that race."""
    runs = yard.of(1000)
    with yard.stack(workers=2) as stack:
        report = run_cancels(stack, runs=runs, seed=yard.seed)
    yield Row(
        f"{runs:,} cancels racing with the end",
        "one terminal state each",
        f"{report.not_one_end} runs without exactly one end; ends {_counts(report.ends)}; answers "
        f"{_counts(report.answers)}; {report.broken_promises} accepted cancels of waiting runs "
        f"that ran; {report.seconds:.0f} s",
        met=report.not_one_end == 0 and report.broken_promises == 0,
    )


def malformed(yard: Yard) -> Iterator[Row]:
    """Yield the row of broken messages."""
    count = yard.of(50)
    with yard.stack(workers=2) as stack:
        report = run_malformed(stack, count=count, seed=yard.seed)
    yield Row(
        f"{count} malformed messages (M1 to M10, Celery's own tasks, random bytes)",
        f"{count} dead letters, 0 worker exits",
        f"{report.kept} dead letters, {report.worker_exits} exits of workers, "
        f"{report.child_exits} of children; forged messages of real runs ran once with the row's "
        f"own parameters: {'yes' if report.forged_ran_once else 'no'}",
        met=report.kept == count
        and report.worker_exits == 0
        and report.forged_ran_once
        and report.works_afterwards,
    )


def rolling(yard: Yard) -> Iterator[Row]:
    """Yield the row of rolling restarts."""
    rounds = yard.of(10)
    with yard.stack(workers=2) as stack:
        report = run_rolling(stack, rounds=rounds, rate=10, seed=yard.seed, takes=0.2)
    yield Row(
        f"rolling restart of all workers under load, {rounds} times",
        "0 lost, 0 attempts charged",
        f"{report.charged} attempts charged; {told(report.verdict)}; {report.restarts} restarts, "
        f"exit codes {_counts(report.exit_codes)}, slowest stop "
        f"{report.slowest_stop_seconds:.1f} s",
        met=not report.verdict.faults and report.charged == 0,
    )


def schedules(yard: Yard) -> Iterator[Row]:
    """Yield the row of beats that die while schedules fire."""
    firings, kills = yard.of(1000), yard.of(20)
    with yard.stack(workers=2) as stack:
        stack.add_beat()
        report = run_schedule_firings(
            stack, schedules=20, every_seconds=5, firings=firings, kills=kills, seed=yard.seed
        )
    late = report.quantile(0.99)
    yield Row(
        f"{firings:,} schedule firings, {kills} `kill -9` of the leading beat of two",
        "0 missed, 0 double, p99 at most 10 s late",
        f"{report.missed} missed, {report.doubled} double of {report.firings:,}; late: median "
        f"{report.quantile(0.5):.1f} s, p99 {late:.1f} s, worst {report.quantile(1):.1f} s; "
        f"{told(report.verdict)}; {report.restarts} restarts; {report.seconds:.0f} s",
        met=report.missed == report.doubled == 0
        and not report.verdict.faults
        and report.firings >= firings
        and report.killed == kills
        and late <= 10.0,
    )


def network(yard: Yard) -> Iterator[Row]:
    """Yield the row of a bad network on the way to the broker and to the database."""
    runs = yard.of(2000)
    plan = NetworkPlan(
        runs=runs,
        rate=10.0,
        resets=yard.of(100),
        holes=yard.of(3),
        hole_seconds=15.0,
        cut_after_bytes=200_000,
        seed=yard.seed,
        patience_seconds=2 * _SIX_MINUTES,
    )
    slow, slower = Fault(0.02, 0.01), Fault(0.2, 0.1)
    with (
        Proxy(yard.postgres.port, seed=yard.seed) as database,
        Proxy(yard.broker.port, seed=yard.seed) as broker,
        yard.stack(
            workers=2, concurrency=4, database_port=database.port, broker_port=broker.port
        ) as stack,
    ):
        report = run_network(stack, [Line(database, slow), Line(broker, slower)], plan)
    yield Row(
        f"{runs:,} tasks over a bad network: 200 ± 100 ms to the broker, 20 ± 10 ms to Postgres, "
        f"{plan.resets} resets of all connections, {plan.holes} x 15 s of silence, cuts in the "
        "middle of messages and commits",
        "0 lost, 0 recorded twice, 0 stuck, one effect per run",
        f"{told(report.verdict)}; {report.verdict.started_again} started more than once; answers "
        f"beside 202: {_counts(report.answers) or 'none'}; {report.seconds:.0f} s",
        met=not report.verdict.faults and report.verdict.accepted == runs,
    )


_ADAPTERS: Final = {"inproc://": r"\[(?:embedded|inproc)", "RabbitMQ": r"\[(?:real|rabbitmq|amqp)"}


def contract(yard: Yard) -> Iterator[Row]:
    """Yield the row of the cases that both brokers pass."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/contract/broker",
        "-v",
        "-p",
        "no:cacheprovider",
    ]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "TASKYARD_TEST_AMQP_URL": yard.broker.url},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        print(ended.stdout[-20_000:], flush=True)
    results = re.findall(r"^(\S+::\S+) (PASSED|FAILED|ERROR|SKIPPED)", ended.stdout, re.MULTILINE)
    told_of = []
    for adapter, pattern in _ADAPTERS.items():
        mine = [result for name, result in results if re.search(pattern, name)]
        # A case of one form alone says so by a skip: a thread cannot be killed, a process can.
        other = mine.count("SKIPPED")
        told_of.append(
            f"{adapter}: {mine.count('PASSED')} of {len(mine) - other} passed"
            + (f" ({other} are of the other form alone)" if other else "")
        )
    yield Row(
        "the same contract cases on `inproc://` and on RabbitMQ",
        "equal",
        "; ".join(told_of),
        met=ended.returncode == 0 and _each_runs_somewhere(results),
    )


def _each_runs_somewhere(results: Sequence[tuple[str, str]]) -> bool:
    """Return whether no case is skipped on every form, as for a missing broker."""
    cases: dict[str, set[str]] = {}
    for name, result in results:
        cases.setdefault(re.sub(r"\[(embedded|inproc|real|rabbitmq|amqp)-?", "[", name), set()).add(
            result
        )
    return bool(cases) and all("PASSED" in seen for seen in cases.values())


def told(verdict: Verdict) -> str:
    """Return the verdict in the words of the bars."""
    known = f"{verdict.lost} lost, {verdict.recorded_twice} recorded twice, {verdict.stuck} stuck"
    others = {
        name.replace("_", " "): count
        for name, count in verdict.faults.items()
        if name not in ("lost", "recorded_twice", "stuck")
    }
    more = ", ".join(f"{count} {name}" for name, count in others.items())
    return f"{known} of {verdict.accepted:,}{', ' + more if more else ''}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def _counts(counts: "dict[str, int] | dict[int, int]") -> str:
    return ", ".join(f"{count} x {name}" for name, count in sorted(counts.items()))


ROWS: Final[dict[str, Callable[[Yard], Iterator[Row]]]] = {
    "kills": kills,
    "zombies": zombies,
    "outage": outage,
    "deliveries": deliveries,
    "cancels": cancels,
    "malformed": malformed,
    "rolling": rolling,
    "schedules": schedules,
    "network": network,
    "contract": contract,
    **RECOVERIES,
}
