"""What a caller asks for, and the run that is made of it, before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from sqlalchemy.engine import Row

from app.common.ids import new_id
from app.tasks.statuses import Status
from app.tasks.transport import Wakeup

QueueName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(max_length=255)]
MAX_LABELS = 32


class RunOptions(BaseModel):
    """Options of one run; what is absent comes from the task. Durations in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    delay_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    run_at: Annotated[AwareDatetime, Field(strict=False)] | None = None
    priority: Annotated[int, Field(ge=0, le=9)] | None = None
    queue: QueueName | None = None
    max_attempts: Annotated[int, Field(ge=1)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    expires_at: Annotated[AwareDatetime, Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _one_due_time(self) -> "RunOptions":
        if self.delay_seconds is not None and self.run_at is not None:
            message = "give either delay_seconds or run_at, not both"
            raise ValueError(message)
        return self


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A wish for a run: the task's name, its parameters, options and labels."""

    task: str
    params: Mapping[str, Any] = field(default_factory=dict)
    options: RunOptions = field(default_factory=RunOptions)
    labels: Mapping[str, str] = field(default_factory=dict)
    task_id: str = field(default_factory=new_id)
    parent_id: str | None = None
    batch_id: str | None = None
    replay_of: str | None = None


class Caller(Protocol):
    """Who asks. `app.auth.Principal` is one."""

    @property
    def id(self) -> str:
        """The stable id of the user or client."""

    @property
    def tenant(self) -> str | None:
        """The tenant whose runs the caller may see."""

    def allows(self, scope: str) -> bool:
        """Return whether the caller holds the scope."""


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A checked run, ready to be inserted; `row` holds the columns, due times still relative to the
    database's clock.
    """

    id: str
    row: dict[str, Any]
    delay_seconds: float | None
    run_at: datetime | None
    # How long an equal run that was accepted stands for this one; None: each is a run of its own.
    unique_for_seconds: float | None = None
    params_bytes: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether the run is inserted with its result: nothing has to start it."""
        return bool(self.row["status"] == Status.SUCCEEDED)

    def known(self, result_ref: str) -> "NewRun":
        """Return the run as one that has succeeded, with a result document on the storage."""
        ended = {"status": Status.SUCCEEDED, "result_ref": result_ref, "unique_key": None}
        row = {**self.row, **ended}
        return replace(self, row=row, delay_seconds=None, run_at=None, unique_for_seconds=None)

    def wakeup(self, delay_seconds: float) -> Wakeup:
        """Return the message that starts the run after the delay."""
        return Wakeup(
            run_id=self.id,
            function=self.row["function"],
            queue=self.row["queue"],
            priority=self.row["priority"],
            delay_seconds=delay_seconds,
            timeout_seconds=self.row["options"]["timeout_seconds"],
            traceparent=traceparent(self.row["trace_id"], self.id),
        )


def traceparent(trace_id: str, run_id: str) -> str:
    """Return the W3C header for a run's message: the run's trace, a span id taken from the run's
    id.
    """
    return f"00-{trace_id}-{run_id.replace('-', '')[-16:]}-01"


def wakeup_of(row: Row[Any], delay_seconds: float) -> Wakeup:
    """Return the message that wakes up the run of a row."""
    return Wakeup(
        run_id=row.id,
        function=row.function,
        queue=row.queue,
        priority=row.priority,
        delay_seconds=delay_seconds,
        timeout_seconds=row.options.get("timeout_seconds"),
        traceparent=traceparent(row.trace_id, row.id),
        fence=row.fence,
    )
