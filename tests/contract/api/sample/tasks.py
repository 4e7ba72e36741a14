import asyncio

from app import Fatal, Retry, StoredResult, TaskContext, register_task


@register_task("sample.add_numbers", queue="default", max_attempts=3)
async def add_numbers(ctx: TaskContext, a: int, b: int = 0, note: str = "") -> dict[str, int]:
    """Add two numbers."""
    ctx.log.info("adding", a=a)
    return {"sum": a + b}


@register_task("sample.store_result")
async def store_result(ctx: TaskContext) -> StoredResult:
    """Leave the result document on the storage."""
    key = f"sample/{ctx.task_id}.json"
    await ctx.storage.put(key, b'{"stored": true}')
    return StoredResult(key=key)


@register_task("sample.fail_always")
async def fail_always(password: str = "") -> None:
    """Fail for good."""
    raise Fatal("it cannot work")


@register_task("sample.guarded_task", required_scope="sample:secret")
async def guarded_task() -> None:
    """Ask for a scope of its own."""


@register_task("sample.sum_positive", max_attempts=1)
async def sum_positive(a: int, b: int) -> int:
    """Add two numbers, neither of them negative."""
    if min(a, b) < 0:
        raise Fatal("a number is negative")
    return a + b


@register_task("sample.tell_much", max_attempts=2, backoff_seconds=0, jitter=0)
async def tell_much(ctx: TaskContext, steps: int, pause_seconds: float) -> int:
    """Write a line and report at every step; the first attempt gives up halfway."""
    for step in range(steps):
        line = f"{ctx.attempt}:{step}"
        ctx.log.info(line)
        await ctx.progress(step + 1, steps)
        if ctx.attempt == 1 and step == steps // 2:
            raise Retry(after=0)
        await asyncio.sleep(pause_seconds)
    return steps
