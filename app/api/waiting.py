"""`Prefer: wait`: holding an answer back until a run has ended."""

import asyncio
from typing import Any

from fastapi import Request
from sqlalchemy.engine import Row

from app.auth.principal import Principal
from app.tasks.runs import Runs
from app.tasks.statuses import ENDED

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.5


async def wait_for_end(
    runs: Runs, task_id: str, caller: Principal, seconds: float, request: Request
) -> Row[Any]:
    """Return the run when it has ended, when the time is over or when the client has gone."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        run = await runs.get(task_id, caller)
        left = deadline - loop.time()
        if run.status in ENDED or left <= 0 or await request.is_disconnected():
            return run
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
