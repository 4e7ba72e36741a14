"""`Prefer: wait`: holding an answer back until a run has ended."""

import asyncio
from typing import Any

from fastapi import Request
from sqlalchemy.engine import Row

from app.auth.principal import Principal
from app.tasks.runs import Runs
from app.tasks.statuses import ENDED

# An answer comes later than it could by at most this share of the time that the run has taken.
_SHARE = 0.2
_SHORTEST_PAUSE_SECONDS = 0.008
_LONGEST_PAUSE_SECONDS = 0.5


async def wait_for_end(
    runs: Runs, task_id: str, caller: Principal, seconds: float, request: Request
) -> Row[Any]:
    """Return the run when it has ended, when the time is over or when the client has gone."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        run = await runs.get(task_id, caller)
        waited = loop.time() - began
        left = seconds - waited
        if run.status in ENDED or left <= 0 or await request.is_disconnected():
            return run
        pause = min(max(_SHARE * waited, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(min(pause, left))
