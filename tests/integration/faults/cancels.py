"""Cancels that race with the end of their runs."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass

import httpx2 as httpx

from tests.integration.faults.stack import ENDED, Stack

_AT_ONCE = 8


_SOONEST = 0.001


class _Aim:
    """How long after its submission a run is about to end: each answer tells early from late.

    Where even the soonest cancel comes too late, the runs have to take longer.
    """

    def __init__(self) -> None:
        self.seconds = 0.05
        self.longest_run = 0.05

    def correct(self, code: int) -> None:
        self.seconds *= 1.25 if code == 202 else 1 / 1.25
        if self.seconds < _SOONEST:
            self.longest_run *= 1.25
        self.seconds = min(max(self.seconds, _SOONEST), 10.0)


@dataclass(frozen=True)
class CancelReport:
    """How the runs ended, what the cancels were answered, and what went wrong."""

    ends: dict[str, int]
    answers: dict[str, int]
    not_one_end: int
    broken_promises: int
    seconds: float


def run_cancels(stack: Stack, *, runs: int, seed: int) -> CancelReport:
    """Submit short runs and cancel each at about the moment when it ends."""
    started = time.monotonic()
    answers: dict[str, int] = asyncio.run(_race(stack, runs, random.Random(seed)))
    stack.await_all_ended(180)
    statuses = {str(run): status for run, status in stack.sql("SELECT id, status FROM task_runs")}
    events: dict[str, list[str]] = {}
    for run, status in stack.sql("SELECT run_id, to_status FROM task_run_events ORDER BY id"):
        events.setdefault(str(run), []).append(status)
    wrong = sum(
        [status for status in events[run] if status in ENDED] != [statuses[run]] for run in statuses
    )
    # 202 before the run began is a promise; a run that was under way may still win the race.
    broken = sum(
        answer == 202 and "RUNNING" not in events[run] and statuses[run] != "CANCELLED"
        for run, answer in answers.items()
    )
    return CancelReport(
        dict(Counter(statuses.values())),
        {str(code): count for code, count in Counter(answers.values()).items()},
        wrong,
        broken,
        time.monotonic() - started,
    )


async def _race(stack: Stack, runs: int, choices: random.Random) -> dict[str, int]:
    answers: dict[str, int] = {}
    aim = _Aim()
    gate = asyncio.Semaphore(_AT_ONCE)
    async with (
        httpx.AsyncClient(base_url=stack.url, headers=stack.headers, timeout=30) as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(runs):
            task = ("faults.note_start", "faults.obey_cancel")[choices.random() < 0.3]
            share, takes = choices.uniform(0.5, 1.5), choices.uniform(0.0, 1.0)
            await gate.acquire()
            race = _cancel(client, answers, task, takes * aim.longest_run, aim, share)
            group.create_task(race).add_done_callback(lambda _: gate.release())
    return answers


async def _cancel(
    client: httpx.AsyncClient,
    answers: dict[str, int],
    task: str,
    takes: float,
    aim: _Aim,
    share: float,
) -> None:
    body = {"task": task, "params": {"seconds": takes}}
    run_id = (await client.post("/api/v1/tasks/run", json=body)).json()["task_id"]
    await asyncio.sleep(aim.seconds * share)
    answer = await client.post(f"/api/v1/tasks/{run_id}/cancel")
    answers[run_id] = answer.status_code
    aim.correct(answer.status_code)
