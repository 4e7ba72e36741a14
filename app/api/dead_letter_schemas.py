"""The bodies of the dead-letter routes, with the exact fields that clients rely on."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.api.moments import Moment
from app.api.schemas import Run, StrictBody
from app.tasks.dead_letter_queries import DeadLetterFilters, LetterState
from app.tasks.statuses import Status

Reason = Annotated[str, Field(min_length=1, max_length=1000)]
Rate = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
_Name = Annotated[str, Field(max_length=200)]
_QueueName = Annotated[str, Field(max_length=64)]
_Origin = Annotated[
    str, Field(max_length=16, description="`run`: a run failed; `broker`: a message was given up.")
]


class DeadLetterFilterBody(StrictBody):
    """Which dead letters are meant: every filter that is given must hold; `{}` means all of them.

    Discarded letters are never meant.
    """

    task: _Name | None = None
    queue: _QueueName | None = None
    error_type: _Name | None = None
    origin: _Origin | None = None
    since: Moment | None = None

    def filters(self) -> DeadLetterFilters:
        """Return the filters for the service."""
        return DeadLetterFilters(**self.model_dump())


class DeadLetterQuery(BaseModel):
    """The filters of the lists."""

    task: _Name | None = None
    queue: _QueueName | None = None
    error_type: _Name | None = None
    origin: _Origin | None = None
    since: Annotated[Moment | None, Field(description="Not older than this.")] = None
    state: Annotated[
        list[LetterState], Field(description="Without it: all but the discarded ones.")
    ] = []

    def filters(self) -> DeadLetterFilters:
        """Return the filters for the service."""
        exact = self.model_dump(exclude={"state"})
        return DeadLetterFilters(**exact, states=tuple(self.state))


class ReplayBody(StrictBody):
    """A replay; without `params` the run gets those that it had."""

    params: dict[str, Any] | None = None
    reason: Reason | None = None


class ReplayManyBody(StrictBody):
    """A replay of every open letter that matches."""

    filter: DeadLetterFilterBody
    rate_per_second: Annotated[
        Rate | None, Field(description="The runs are due one after the other; without it, at once.")
    ] = None
    dry_run: Annotated[bool, Field(description="Only count.")] = False
    reason: Reason | None = None


class DiscardManyBody(StrictBody):
    """Every letter that matches is put aside."""

    filter: DeadLetterFilterBody
    reason: Reason | None = None
    dry_run: Annotated[bool, Field(description="Only count.")] = False


class DeadLetterSummary(BaseModel):
    """A dead letter in a list."""

    id: str
    state: LetterState
    run_id: str | None
    task: str | None
    queue: str
    origin: str
    error_type: str
    error_message: str
    attempts: int
    created_at: Moment
    replayed_at: Moment | None
    replayed_by: str | None
    replay_run_id: str | None
    discarded_at: Moment | None
    discarded_by: str | None
    discard_reason: str | None
    links: dict[str, str]


class DeadLetterList(BaseModel):
    """Dead letters, newest first."""

    items: list[DeadLetterSummary]
    next_cursor: str | None


class DeadLetterGroup(BaseModel):
    """The letters of one task with one error from one origin; `replayed` of them were replayed."""

    task: str | None
    error_type: str
    origin: str
    count: int
    replayed: int
    first_seen: Moment
    last_seen: Moment
    last_dead_letter_id: str


class DeadLetterGroupList(BaseModel):
    """Groups, the one with the newest letter first."""

    items: list[DeadLetterGroup]
    next_cursor: str | None


class DeadMessage(BaseModel):
    """The message as it lay in the dead-letter queue, its body cut at 64 KiB.

    A body that is no UTF-8 is base64, as `body_encoding` says; `body_bytes` is its real size,
    `fingerprint` the SHA-256 of all of it, `reason` why the broker gave it up.
    """

    body: str | None
    body_encoding: str | None
    body_bytes: int | None
    content_type: str | None
    content_encoding: str | None
    fingerprint: str | None
    reason: str | None


class Replay(BaseModel):
    """A run that was made again of the letter's run."""

    task_id: str
    task: str
    status: Status
    created_at: Moment
    created_by: str
    links: dict[str, str]


class DeadLetter(DeadLetterSummary):
    """A dead letter with its message, run and replays; secret-looking headers are masked.

    There is no message while it is on its way from the worker to the archive.
    """

    message: DeadMessage | None
    headers: dict[str, Any]
    death_history: list[Any]
    run: Run | None
    replays: list[Replay]


class ReplayedLetters(BaseModel):
    """What a replay by filter did or, with `dry_run`, would do.

    `batch_id` is that of the runs. `skipped` counts by error code the open letters that match
    and cannot be replayed.
    """

    dry_run: bool
    count: int
    batch_id: str | None
    skipped: dict[str, int]
    links: dict[str, str]


class DiscardedLetters(BaseModel):
    """How many letters were put aside or, with `dry_run`, would be."""

    dry_run: bool
    count: int
