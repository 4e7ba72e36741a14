"""The stream of a job: how far it is, from the submission to its end."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from app.api.dependencies import Reader
from app.api.streaming import EventStream, StreamDesk, desk_of, event, stream_of
from app.auth.principal import Principal
from app.plugins.lint.errors import JobNotFound
from app.plugins.lint.models import JobStatus
from app.plugins.lint.routes.dependencies import Jobs
from app.plugins.lint.routes.views import job_progress
from app.plugins.lint.service import LintJobs

router = APIRouter(prefix="/jobs", tags=["lint"])
_PAUSE_SECONDS = 0.5
_END = "end"


@router.get(
    "/{job_id}/stream",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "description": "Server-sent events: `progress`, and last `end`",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "The client has seen the end of the job"},
        429: {"description": "The caller follows too many runs"},
    },
)
async def stream_lint_job(job_id: str, jobs: Jobs, caller: Reader, request: Request) -> Response:
    """Follow a job: its status and figures now and whenever they change; it ends with the job.

    Each event tells how things stand, so a client that was cut off just asks again.
    """
    view = await jobs.get(job_id, caller, page=1, size=1)
    if JobStatus(view.job.status).has_ended and request.headers.get("last-event-id") == _END:
        return Response(status_code=204)
    desk = desk_of(request)
    leave = desk.take_seat(caller)
    follow = _Follow(jobs, job_id, caller, desk).events()
    return EventStream(stream_of(request, desk, f"job {job_id}", follow), leave)


@dataclass(frozen=True, slots=True)
class _Follow:
    jobs: LintJobs
    job_id: str
    caller: Principal
    desk: StreamDesk

    async def events(self) -> AsyncGenerator[list[bytes]]:
        """Yield an event for each change, and an empty list when there was none for a while."""
        seen, number, told_at = "", 0, time.monotonic()
        while not self.desk.streams.is_closed:
            try:
                view = await self.jobs.get(self.job_id, self.caller, page=1, size=1)
            except JobNotFound:
                return  # It was removed meanwhile.
            progress = job_progress(view).model_dump_json(exclude_none=True)
            if JobStatus(view.job.status).has_ended:
                yield [event(_END, _END, progress)]
                return
            if progress != seen:
                seen, number, told_at = progress, number + 1, time.monotonic()
                yield [event(str(number), "progress", progress)]
            elif time.monotonic() - told_at >= self.desk.settings.heartbeat_seconds:
                told_at = time.monotonic()
                yield []
            await asyncio.sleep(_PAUSE_SECONDS)
