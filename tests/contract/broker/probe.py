"""The plugin that the workers under test load by its dotted name."""

import asyncio
import ctypes
import fcntl
import itertools
import signal
import time
from pathlib import Path

from app import Fatal, Plugin, TaskContext, register_task

PLUGIN = Plugin(name="probe", version="1.0.0")


@register_task("probe.echo_text")
async def echo_text(text: str) -> str:
    """Return the text."""
    return text


@register_task("probe.fail_often", max_attempts=8, backoff_seconds=0.1, backoff_max_seconds=0.2)
async def fail_often(ctx: TaskContext, failures: int) -> int:
    """Fail so many times and then return the attempt."""
    if ctx.attempt <= failures:
        raise RuntimeError("not yet")
    return ctx.attempt


@register_task("probe.fail_always", max_attempts=1)
def fail_always() -> None:
    """Fail for good."""
    raise Fatal("never")


@register_task("probe.note_name", timeout_seconds=60)
async def note_name(folder: str, name: str, until: str | None = None) -> None:
    """Write a name to the list of a folder, and wait for a file to appear there."""
    with (Path(folder) / "order").open("a", encoding="utf-8") as order:
        order.write(f"{name}\n")
    while until is not None and not (Path(folder) / until).exists():  # noqa: ASYNC110 - a file has no event
        await asyncio.sleep(0.02)


@register_task("probe.sleep_long", max_attempts=1, timeout_seconds=1)
def sleep_long() -> None:
    """Sleep past the time limit, in Python."""
    time.sleep(30)


@register_task("probe.hang_process", max_attempts=1, timeout_seconds=300)
def hang_process() -> bool:
    """Never return to Python, where a signal could end it."""
    return 0 in itertools.repeat(1)


@register_task("probe.hang_first", max_attempts=2, timeout_seconds=1, backoff_seconds=0.1)
def hang_first(ctx: TaskContext) -> int:
    """Hang outside of Python in the first attempt, and return the second."""
    return int(ctx.attempt == 1 and 0 in itertools.repeat(1)) or ctx.attempt


@register_task("probe.crash_process", max_attempts=2, backoff_seconds=0.1)
def crash_process() -> None:
    """End the process that runs it, as a broken native library does."""
    ctypes.string_at(0)


@register_task("probe.ignore_signals", max_attempts=3, timeout_seconds=300)
def ignore_signals() -> None:
    """Never end, and do not listen to whoever asks."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(0.1)


@register_task("probe.wait_for_file", timeout_seconds=300)
def wait_for_file(path: str) -> str:
    """Wait until a file is there; no coroutine."""
    while not Path(path).exists():
        time.sleep(0.05)
    return path


@register_task("probe.hold_alone", max_concurrency=1, max_attempts=8, backoff_seconds=0.1)
async def hold_alone(folder: str) -> None:
    """Hold a lock that no other may hold meanwhile; tell when another has it."""
    with (Path(folder) / "starts").open("a", encoding="utf-8") as starts:
        starts.write("start\n")
    with (Path(folder) / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with (Path(folder) / "overlaps").open("a", encoding="utf-8") as overlaps:
                overlaps.write("overlap\n")
        await asyncio.sleep(0.05)
