from app import Fatal, StoredResult, TaskContext, register_task


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
