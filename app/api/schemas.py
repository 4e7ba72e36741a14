"""The bodies of the task routes, with the exact fields that clients rely on."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.moments import Moment
from app.tasks.catalogue import CatalogueEntry
from app.tasks.requests import MAX_LABELS, LabelKey, LabelValue, RunOptions
from app.tasks.statuses import Status

MAX_BATCH_ITEMS = 10_000
TaskName = Annotated[str, Field(min_length=1, max_length=200)]


class StrictBody(BaseModel):
    """A request body: no unknown field, no text for a number, no number for a boolean."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RunOptionsBody(RunOptions):
    """Options of one run; what is absent comes from the task."""

    run_at: Moment | None = None
    expires_at: Moment | None = None


class RunTaskBody(StrictBody):
    """A run that is asked for."""

    task: TaskName
    params: dict[str, Any] = {}
    options: RunOptionsBody = RunOptionsBody()
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MAX_LABELS)] = {}


class RunBatchBody(StrictBody):
    """Runs that are accepted together, all or none."""

    items: Annotated[list[RunTaskBody], Field(min_length=1, max_length=MAX_BATCH_ITEMS)]


class RerunBody(StrictBody):
    """A run again; without `params` it gets those that it had."""

    params: dict[str, Any] | None = None


class AcceptedBatch(BaseModel):
    """A batch that is durable: one id per item, in their order. An item of a task that is unique
    for a time may have got the id of an equal run; `deduplicated` counts those.
    """

    batch_id: str
    task_ids: list[str]
    deduplicated: int = 0
    links: dict[str, str]


class BatchStatus(BaseModel):
    """How the runs of a batch fare; `counts` has every status. An item that was deduplicated is
    counted where its run was accepted first.
    """

    batch_id: str
    total: int
    deduplicated: int
    finished: int
    counts: dict[Status, int]
    created_by: str
    created_at: Moment
    links: dict[str, str]


class RegisterTaskBody(StrictBody):
    """A derived task: a base task with presets."""

    name: Annotated[str, Field(max_length=200, pattern=r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+$")]
    base_task: TaskName
    description: Annotated[str, Field(max_length=2000)] | None = None
    params: dict[str, Any] = {}
    options: dict[str, Any] = {}


class RetryPolicy(BaseModel):
    """How often and after what waits an attempt is repeated."""

    max_attempts: int
    backoff_seconds: float
    backoff_max_seconds: float
    jitter: float


class TaskLimits(BaseModel):
    """What bounds the attempts over all workers, for the whole task or for each key."""

    rate_limit: str | None
    max_concurrency: int | None
    concurrency_key: str | None


class RegisteredTask(BaseModel):
    """A task that can be run; the schemas are JSON Schema 2020-12."""

    name: str
    description: str
    plugin: str
    kind: Literal["code", "derived"]
    base_task: str | None
    version: str
    queue: str
    params_schema: dict[str, Any]
    result_schema: dict[str, Any]
    retry: RetryPolicy
    timeout_seconds: float
    unique_for_seconds: float | None
    limits: TaskLimits
    required_scope: str | None
    deprecated: bool
    aliases: list[str]

    @classmethod
    def of(cls, entry: CatalogueEntry) -> "RegisteredTask":
        """Return the catalogue's entry as clients see it."""
        options = entry.options
        return cls(
            name=entry.name,
            description=entry.description,
            plugin=entry.spec.plugin,
            kind="code" if entry.base_task is None else "derived",
            base_task=entry.base_task,
            version=options.version,
            queue=options.queue,
            params_schema=entry.params_schema,
            result_schema=entry.spec.signature.result_schema,
            retry=RetryPolicy(
                max_attempts=options.max_attempts,
                backoff_seconds=options.backoff_seconds,
                backoff_max_seconds=options.backoff_max_seconds,
                jitter=options.jitter,
            ),
            timeout_seconds=options.timeout_seconds,
            unique_for_seconds=options.unique_for_seconds,
            limits=TaskLimits(
                rate_limit=options.rate_limit,
                max_concurrency=options.max_concurrency,
                concurrency_key=options.concurrency_key,
            ),
            required_scope=options.required_scope,
            deprecated=options.deprecated,
            aliases=[] if entry.base_task else list(options.aliases),
        )


class RegisteredTaskList(BaseModel):
    """All tasks by name."""

    items: list[RegisteredTask]
    next_cursor: str | None = None


class AcceptedRun(BaseModel):
    """A run that is durable; `links` are paths on this server. `deduplicated`: the task is unique
    for a time, and an equal run that was accepted before stands for this one.
    """

    task_id: str
    task: str
    status: Status
    created_at: Moment
    deduplicated: bool = False
    links: dict[str, str]


class RunError(BaseModel):
    """Why an attempt failed."""

    type: str
    message: str
    retryable: bool


class RunProgress(BaseModel):
    """How far the run says it is."""

    current: float
    total: float | None
    message: str | None


class Run(BaseModel):
    """One run of a task. A result that is too large for the row is null here, with
    `result_stored`; `links.result` leads to it.
    """

    task_id: str
    task: str
    task_version: str | None
    status: Status
    params: dict[str, Any]
    result: Any
    result_stored: bool
    error: RunError | None
    attempt: int
    max_attempts: int
    priority: int
    queue: str
    progress: RunProgress | None
    labels: dict[str, str]
    created_by: str
    parent_id: str | None
    batch_id: str | None
    replay_of: str | None
    schedule_id: str | None
    trace_id: str
    created_at: Moment
    scheduled_for: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    updated_at: Moment
    dead_letter_id: str | None
    links: dict[str, str]


class RunList(BaseModel):
    """Runs, newest first; secret-looking parameters are masked here."""

    items: list[Run]
    next_cursor: str | None


class RunEvent(BaseModel):
    """One transition of a run."""

    model_config = ConfigDict(populate_by_name=True)

    at: Moment
    from_status: Status | None = Field(serialization_alias="from")
    to_status: Status = Field(serialization_alias="to")
    attempt: int
    actor: str
    worker: str | None
    detail: dict[str, Any] | None


class RunEventList(BaseModel):
    """The history of a run, oldest first."""

    items: list[RunEvent]
    next_cursor: str | None = None


class RunChildren(BaseModel):
    """How many children a run has; statuses that none of them is in are left out."""

    total: int
    counts: dict[Status, int]
    links: dict[str, str]


class RunLogLine(BaseModel):
    """A line that a task wrote through its context."""

    at: Moment
    attempt: int
    level: str
    message: str
    fields: dict[str, Any] | None


class RunLogList(BaseModel):
    """The lines of a run, oldest first."""

    items: list[RunLogLine]
    next_cursor: str | None = None
