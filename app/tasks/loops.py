"""The event loop of one worker thread: run a coroutine on it, and leave nothing behind."""

import asyncio
import contextvars
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Interruption(SystemExit):
    """Carries an exception out of a running loop, which lets nothing else out of a callback."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def run_on(runner: asyncio.Runner, coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what the coroutine returns, run in the caller's context (trace, log fields).

    A runner keeps the context of its own birth, so the delivery's is handed in.
    """
    with _interruptible():
        return runner.run(coroutine, context=contextvars.copy_context())


def cancel_leftovers(runner: asyncio.Runner) -> None:
    """Cancel and await every task that is left on the loop.

    An exception that a signal raises leaves the coroutine suspended; it would go
    on in the middle of the next run.
    """
    loop = runner.get_loop()
    leftovers = asyncio.all_tasks(loop)
    for task in leftovers:
        task.cancel()
    if leftovers:
        with _interruptible():
            loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise what an interruption carries as if it had been raised here."""
    try:
        yield
    except Interruption as interruption:
        raise interruption.error from None


async def bounded(coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
    """Return what the coroutine returns; TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds) as limit:
        try:
            return await coroutine
        except TimeoutError as error:
            if limit.expired():
                raise
            # The task's own time-out is an error like any other, not our limit.
            raise TimeoutError(str(error) or "A step of the task timed out.") from error
