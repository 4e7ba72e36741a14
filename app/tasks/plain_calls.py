"""Messages of plain Celery producers: the run that each one asks for gets its row here.

The message stands for its sender only; who sent it is not known. So a task that asks for a
scope of its own is never run for one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.common.errors import FieldError, Forbidden, TaskyardError
from app.common.logging import get_logger
from app.common.metrics import DUPLICATE_DELIVERIES, TASKS
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.catalogue import CatalogueEntry, entry_of
from app.tasks.errors import InvalidParams, RunAlreadyExists
from app.tasks.insertion import insert_run
from app.tasks.making import RunMaker
from app.tasks.models import DeadLetter
from app.tasks.outbox import Outbox
from app.tasks.outcomes import error_document
from app.tasks.registry import Registry
from app.tasks.requests import NewRun, RunOptions, RunRequest
from app.tasks.statuses import Status

PRODUCER: Final = "celery"
log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class PlainCall:
    """What the message of a plain Celery producer asks for; `run_id` is its Celery id."""

    run_id: str
    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    queue: str | None = None
    priority: int | None = None
    run_at: datetime | None = None
    expires_at: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    trace_id: str


class PlainCalls:
    """Accepts such messages, each once: the id is the run's, so a second delivery changes
    nothing.
    """

    def __init__(
        self, databases: Databases, registry: Registry, maker: RunMaker, outbox: Outbox
    ) -> None:
        self._databases = databases
        self._registry = registry
        self._maker = maker
        self._outbox = outbox

    async def accept(self, call: PlainCall) -> None:
        """Insert the run and send its wake-up; the row of a wrong call begins as FAILED, with a
        dead letter. When this returns the message may be acknowledged.
        """
        entry = entry_of(self._registry.get(call.task))
        run = self._run(entry, call)
        try:
            async with self._databases.begin(APPLICATION_BIND) as connection:
                row = await insert_run(connection, run, actor=PRODUCER)
                if run.row.get("dead_letter_id") is not None:
                    await _keep_letter(connection, run)
        except RunAlreadyExists:
            # Delivered again, or an id that was used: its row says what it runs.
            DUPLICATE_DELIVERIES.labels(run.row["queue"]).inc()
            return
        if row.id != run.id:
            log.info("an equal run stands for the message", task_id=run.id, equal_run=row.id)
        elif row.status == Status.FAILED:
            TASKS.labels(run.row["function"], run.row["queue"], Status.FAILED).inc()
            log.warning("the message of a plain producer is wrong", task=run.row["task"])
        else:
            due = row.scheduled_for
            delay = 0.0 if due is None else max(0.0, (due - row.now).total_seconds())
            await self._outbox.flush([run.wakeup(delay)])

    def _run(self, entry: CatalogueEntry, call: PlainCall) -> NewRun:
        options = RunOptions(run_at=call.run_at, queue=call.queue, priority=call.priority)
        request = RunRequest(
            task=entry.name, options=options, labels=call.labels, task_id=call.run_id
        )
        told: dict[str, Any] = {"created_by": PRODUCER, "tenant": None, "trace_id": call.trace_id}
        try:
            _check_scope(entry)
            params = _params(entry, call)
            run = self._maker.make(entry, _with(request, params), **told)
        except TaskyardError as error:
            if error.status >= 500:
                raise
            params = {"args": list(call.args), "kwargs": dict(call.kwargs)}
            document = error_document(_named(error), retryable=False)
            return self._maker.refused(entry, _with(request, params), error=document, **told)
        # Past or not: the claim looks at it, and the sweeper.
        run.row["expires_at"] = call.expires_at
        return run


def _with(request: RunRequest, params: Mapping[str, Any]) -> RunRequest:
    return RunRequest(
        task=request.task,
        params=params,
        options=request.options,
        labels=request.labels,
        task_id=request.task_id,
    )


def _check_scope(entry: CatalogueEntry) -> None:
    if entry.spec.options.required_scope is not None:
        raise Forbidden(
            f"The task '{entry.name}' asks for a scope, which a plain message cannot hold;"
            " submit it through the API."
        )


def _params(entry: CatalogueEntry, call: PlainCall) -> dict[str, Any]:
    """Return the parameters by name; positional ones go by the signature's order."""
    names = entry.spec.signature.parameter_names
    if len(call.args) > len(names):
        raise InvalidParams(
            f"The task '{entry.name}' takes at most {len(names)} positional arguments,"
            f" and {len(call.args)} came."
        )
    named = dict(zip(names, call.args, strict=False))
    twice = sorted(named.keys() & call.kwargs.keys())
    if twice:
        raise InvalidParams(
            f"The task '{entry.name}' got an argument twice: {', '.join(twice)}.",
            errors=[FieldError(("params", name), "came twice", "repeated") for name in twice],
        )
    return {**named, **call.kwargs}


def _named(error: TaskyardError) -> TaskyardError:
    """Return the error with its places in the text, which is all that the row keeps."""
    places = "; ".join(f"{'.'.join(map(str, one.loc))}: {one.msg}" for one in error.errors[:20])
    return type(error)(f"{error.detail} {places}") if places else error


async def _keep_letter(connection: AsyncConnection, run: NewRun) -> None:
    error = run.row["error"]
    letter = {
        "id": run.row["dead_letter_id"],
        "run_id": run.id,
        "task": run.row["task"],
        "queue": run.row["queue"],
        "origin": "run",
        "error_type": error["type"],
        "error_message": error["message"],
        "tenant": run.row["tenant"],
    }
    await connection.execute(insert(DeadLetter), letter)
