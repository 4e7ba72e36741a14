"""The plugin that the workers under fault load: tasks that leave a trace of each start and effect.

A start is a line in a file, written before anything else, so that it counts whatever becomes of the
attempt. An effect is a row written through the attempt's session; the table has no unique index,
so that an effect that is committed twice shows as two rows.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import itertools
import os
import signal
import time
from pathlib import Path
from typing import Final

from sqlalchemy import text

from app import Fatal, Plugin, TaskContext, register_task

PLUGIN: Final = Plugin(name="faults", version="1.0.0")
STARTS_FILE: Final = "TASKYARD_TEST_KIT_STARTS"
EFFECTS_TABLE: Final = (
    "CREATE TABLE fault_effects (id bigserial PRIMARY KEY, run_id uuid NOT NULL, "
    "attempt int NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())"
)
_EFFECT: Final = text("INSERT INTO fault_effects (run_id, attempt) VALUES (:run_id, :attempt)")


def note_start(ctx: TaskContext) -> None:
    """Append one line: run, attempt, process, seconds on the machine's monotonic clock."""
    line = f"{ctx.task_id} {ctx.attempt} {os.getpid()} {time.monotonic():.6f}\n"
    # One write of a short line to a file opened for appending is not mixed with another's.
    file = os.open(Path(os.environ[STARTS_FILE]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@register_task("faults.note_effect", max_attempts=20, backoff_seconds=0.2, backoff_max_seconds=2)
async def note_effect(ctx: TaskContext, seconds: float = 0.02) -> int:
    """Take so long, and leave one row in the effects table."""
    note_start(ctx)
    await ctx.session("postgres_main").execute(
        _EFFECT, {"run_id": ctx.task_id, "attempt": ctx.attempt}
    )
    await asyncio.sleep(seconds)
    return ctx.attempt


@register_task("faults.note_start", max_attempts=20, backoff_seconds=0.2, backoff_max_seconds=2)
async def note_start_only(ctx: TaskContext, seconds: float = 0.0) -> int:
    """Take so long, and leave no row."""
    note_start(ctx)
    await asyncio.sleep(seconds)
    return ctx.attempt


@register_task("faults.block_thread", max_attempts=20, backoff_seconds=0.2)
def block_thread(ctx: TaskContext, seconds: float) -> int:
    """Sleep as a blocking function does, and leave one row."""
    note_start(ctx)
    time.sleep(seconds)
    ctx.session("postgres_main").execute(_EFFECT, {"run_id": ctx.task_id, "attempt": ctx.attempt})
    return ctx.attempt


@register_task("faults.obey_cancel", max_attempts=3, backoff_seconds=0.1)
async def obey_cancel(ctx: TaskContext, seconds: float) -> int:
    """Take so long, unless somebody cancels."""
    note_start(ctx)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ctx.raise_if_cancelled()
        await asyncio.sleep(0.02)
    return ctx.attempt


@register_task("faults.kill_itself", max_attempts=2, backoff_seconds=0.1)
def kill_itself(ctx: TaskContext) -> None:
    """Kill the process that runs it."""
    note_start(ctx)
    os.kill(os.getpid(), signal.SIGKILL)


@register_task("faults.crash_process", max_attempts=2, backoff_seconds=0.1)
def crash_process(ctx: TaskContext) -> None:
    """Crash the process that runs it, as a broken native library does."""
    note_start(ctx)
    ctypes.string_at(0)


@register_task("faults.outlast_limit", max_attempts=1, timeout_seconds=1)
def outlast_limit(ctx: TaskContext) -> bool:
    """Never return to Python, where a soft limit could end it."""
    note_start(ctx)
    return 0 in itertools.repeat(1)


@register_task("faults.outlast_soft_limit", max_attempts=1, timeout_seconds=1)
def outlast_soft_limit(ctx: TaskContext, seconds: float) -> None:
    """Sleep as a blocking function does, for longer than its limit."""
    note_start(ctx)
    time.sleep(seconds)


@register_task("faults.ignore_soft_limit", max_attempts=1, timeout_seconds=1)
def ignore_soft_limit(ctx: TaskContext) -> None:
    """Go on whatever is raised, and let other threads run."""
    note_start(ctx)
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)


@register_task("faults.fail_always", max_attempts=1)
async def fail_always(ctx: TaskContext) -> None:
    """Fail for good."""
    note_start(ctx)
    raise Fatal("never")


@register_task("faults.fail_often", max_attempts=8, backoff_seconds=0.1, backoff_max_seconds=0.2)
async def fail_often(ctx: TaskContext, failures: int) -> int:
    """Fail so many times and then return the attempt."""
    note_start(ctx)
    if ctx.attempt <= failures:
        raise RuntimeError("not yet")
    return ctx.attempt


@register_task("faults.store_large", max_attempts=20, backoff_seconds=0.2)
async def store_large(ctx: TaskContext) -> str:
    """Return a result that goes to the storage."""
    note_start(ctx)
    return "x" * 100_000


@register_task("faults.ask_cache", max_attempts=3, backoff_seconds=0.2)
async def ask_cache(ctx: TaskContext, key: str) -> str:
    """Return a value by the cache, or by its loader when the cache is gone."""

    async def load() -> str:
        return f"value of {key}"

    value = await ctx.cache.get_or_load(key, load, 60)
    return str(value)


@register_task("faults.write_both", max_attempts=20, backoff_seconds=0.2)
async def write_both(ctx: TaskContext) -> int:
    """Write a row to each of the two databases; the second is idempotent by the run's id."""
    note_start(ctx)
    effect = {"run_id": ctx.task_id, "attempt": ctx.attempt}
    await ctx.session("postgres_main").execute(_EFFECT, effect)
    await ctx.session("mysql_lint").execute(
        text("REPLACE INTO fault_effects (run_id, attempt) VALUES (:run_id, :attempt)"), effect
    )
    return ctx.attempt


@register_task("faults.hold_alone", max_concurrency=1, max_attempts=20, backoff_seconds=0.1)
def hold_alone(ctx: TaskContext, seconds: float) -> None:
    """Hold a lock of the machine's for so long; tell when another process has it already.

    The kernel lets go of the lock when its process dies, so a conflict is two that live.
    """
    note_start(ctx)
    starts = Path(os.environ[STARTS_FILE])
    with starts.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with starts.with_suffix(".overlaps").open("a") as overlaps:
                overlaps.write(f"{ctx.task_id} {ctx.attempt}\n")
        time.sleep(seconds)


@register_task("faults.keep_pace", rate_limit="300/m", max_attempts=3)
async def keep_pace(ctx: TaskContext) -> None:
    """Note the moment of its start."""
    note_start(ctx)
