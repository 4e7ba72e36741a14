"""Tasks that fail, wait, submit and write, for the tests of the kit."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import text

from app import Fatal, Retry, Schedule, TaskContext, register_task


class Disk(Exception):
    """What a task of these tests raises."""


@register_task("yard.fail_first", max_attempts=3, backoff_seconds=10, retry_on=Disk)
async def fail_first(ctx: TaskContext, times: int) -> str:
    """Fail so many times, then succeed."""
    ctx.log.info("attempt", number=ctx.attempt)
    if ctx.attempt <= times:
        raise Disk("the disk is full")
    return f"done by attempt {ctx.attempt}"


@register_task("yard.wait_and_see", max_attempts=2)
def wait_and_see(ctx: TaskContext) -> int:
    """Ask for another attempt after 90 seconds."""
    if ctx.attempt == 1:
        raise Retry(after=90)
    return ctx.attempt


@register_task("yard.give_up", max_attempts=5)
def give_up(reason: str) -> None:
    """Fail for good at once."""
    raise Fatal(reason)


@register_task("yard.make_note")
async def make_note(ctx: TaskContext, note: str, fail: bool = False) -> str:
    """Write a label of the run with its outcome, or fail after it was written."""
    statement = text("INSERT INTO leases (name, holder, term, expires_at) VALUES (:n, 'x', 1, '')")
    await ctx.session("postgres_main").execute(statement, {"n": note})
    if fail:
        raise Fatal("after the note")
    return note


@register_task("yard.keep_file")
def keep_file(ctx: TaskContext, size: int) -> str:
    """Keep a file, and return more text than a row holds."""
    ctx.storage.put("yard/file.txt", b"x" * size)
    return "y" * size


@register_task("yard.fan_out")
async def fan_out(ctx: TaskContext, children: int, fail: bool = False) -> list[str]:
    """Submit children, each a second later than the one before."""
    ids = [
        ctx.submit("yard.append_mark", {"mark": f"child {number}"}, delay_seconds=number)
        for number in range(children)
    ]
    if fail:
        raise Fatal("after the children")
    return ids


MARKS: list[str] = []


@register_task("yard.append_mark")
def append_mark(mark: str) -> None:
    """Write down that it was run: an effect outside of every database."""
    MARKS.append(mark)


@register_task("yard.tell_time")
async def tell_time(ctx: TaskContext) -> dict[str, Any]:
    """Ask Python, SQLite and the cache what they know."""
    from app.common.clock import utc_now

    statement = text("SELECT CURRENT_TIMESTAMP, datetime('now', '+1 hour'), date()")
    row = (await ctx.session("postgres_main").execute(statement)).one()
    return {"python": utc_now().isoformat(), "sqlite": list(row), "seen": await ctx.cache.incr("n")}


@register_task("yard.submit_itself")
def submit_itself(ctx: TaskContext) -> None:
    """Never come to an end."""
    ctx.submit("yard.submit_itself")


@register_task("yard.every_hour", schedule=Schedule(cron="0 * * * *", params={"mark": "hourly"}))
def every_hour(mark: str) -> None:
    """Write down that the hour has struck."""
    MARKS.append(mark)


@register_task("yard.one_a_minute", rate_limit="1/m")
def one_a_minute(mark: str) -> None:
    """Write down that it was run, at most once a minute."""
    MARKS.append(mark)


ALL: list[Callable[..., Any]] = [
    fail_first,
    wait_and_see,
    give_up,
    make_note,
    keep_file,
    fan_out,
    append_mark,
    tell_time,
    submit_itself,
    one_a_minute,
]
