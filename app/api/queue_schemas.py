"""The bodies of the queue routes and of explanations: the fields that clients rely on."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.api.moments import Moment
from app.api.schemas import StrictBody
from app.tasks.explaining import Explanation, ReasonCode
from app.tasks.queues import QueueState
from app.tasks.requests import Caller
from app.tasks.statuses import Status


class PauseBody(StrictBody):
    """Why a queue is paused or resumed; it goes into the audit log."""

    reason: Annotated[str, Field(min_length=1, max_length=1000)] | None = None


class Queue(BaseModel):
    """One class of queues. `ready` and `consumers` are null while the broker does not answer."""

    name: str
    ready: int | None
    unacknowledged: int
    delayed: int
    dead: int
    oldest_age_seconds: float | None
    consumers: int | None
    paused: bool
    paused_at: Moment | None
    paused_by: str | None
    pause_reason: str | None

    @classmethod
    def of(cls, state: QueueState, caller: Caller) -> "Queue":
        """Return the queue as the caller may see it: who paused it is not told to tenants."""
        pause = state.pause
        by, reason = (None, None) if pause is None else (pause.paused_by, pause.reason)
        if caller.tenant is not None:
            by = reason = None
        return cls(
            name=state.name,
            ready=state.ready,
            unacknowledged=state.unacknowledged,
            delayed=state.delayed,
            dead=state.dead,
            oldest_age_seconds=state.oldest_age_seconds,
            consumers=state.consumers,
            paused=pause is not None,
            paused_at=None if pause is None else pause.paused_at,
            paused_by=by,
            pause_reason=reason,
        )


class QueueList(BaseModel):
    """Every class of queues, by name."""

    items: list[Queue]
    next_cursor: str | None = None


class ReasonView(BaseModel):
    """One fact that keeps a run from running; `code` is stable."""

    code: ReasonCode
    message: str
    detail: dict[str, Any]


class ExplanationView(BaseModel):
    """Why a run is where it is; what has to change first comes first."""

    task_id: str
    status: Status
    reasons: list[ReasonView]

    @classmethod
    def of(cls, told: Explanation) -> "ExplanationView":
        """Return the explanation as clients see it."""
        reasons = [
            ReasonView(code=one.code, message=one.message, detail=one.detail)
            for one in told.reasons
        ]
        return cls(task_id=told.task_id, status=Status(told.status), reasons=reasons)
