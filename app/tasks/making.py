"""From a request to a checked run, ready to be inserted; nothing is written here."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson

from app.common.clock import utc_now
from app.common.errors import FieldError
from app.common.ids import new_id
from app.common.strict_json import dump_bytes
from app.config.settings import Settings
from app.db.types import db_now
from app.tasks.catalogue import CatalogueEntry
from app.tasks.errors import InvalidOptions, ParamsTooLarge
from app.tasks.requests import MAX_LABELS, NewRun, RunRequest
from app.tasks.statuses import Status


class RunMaker:
    """Checks requests against the catalogue and the limits; writes nothing."""

    def __init__(self, settings: Settings, queues: Sequence[str]) -> None:
        self._limits = settings.limits
        self._queues = tuple(queues)

    @property
    def queues(self) -> tuple[str, ...]:
        """The classes of queues that a run may ask for."""
        return self._queues

    def make(
        self,
        entry: CatalogueEntry,
        request: RunRequest,
        *,
        created_by: str,
        tenant: str | None,
        trace_id: str,
    ) -> NewRun:
        """Return the checked run; raises InvalidParams, InvalidOptions or ParamsTooLarge."""
        params = {**request.params, **entry.preset_params}
        document = dump_bytes(params)
        self._check_size(document)
        model = entry.spec.check(document)
        self._check_options(request)
        options = request.options
        limits = entry.spec.limits
        # Who asks for a run again wants one more.
        unique_for = entry.options.unique_for_seconds if request.replay_of is None else None
        due_later = bool(options.delay_seconds) or (
            options.run_at is not None and options.run_at > utc_now()
        )
        row = {
            **_row(entry, request, created_by, tenant, trace_id),
            "status": Status.SCHEDULED if due_later else Status.PENDING,
            "params": params,
            "limit_key": limits and limits.key_of(entry.spec.signature.arguments(model)),
            "unique_key": unique_key(entry.name, params, tenant) if unique_for else None,
        }
        return NewRun(
            id=request.task_id,
            row=row,
            delay_seconds=options.delay_seconds if due_later else None,
            run_at=options.run_at if due_later else None,
            unique_for_seconds=unique_for,
            params_bytes=len(document),
        )

    def refused(
        self,
        entry: CatalogueEntry,
        request: RunRequest,
        *,
        error: Mapping[str, Any],
        created_by: str,
        tenant: str | None,
        trace_id: str,
    ) -> NewRun:
        """Return the run of a wish that nobody can be told about: it begins as FAILED."""
        wants_letter = entry.options.on_failure != "discard"
        row = {
            **_row(entry, request, created_by, tenant, trace_id),
            "status": Status.FAILED,
            "queue": entry.options.queue,
            "params": dict(request.params),
            "error": dict(error),
            "dead_letter_id": new_id() if wants_letter else None,
            "finished_at": db_now(),
        }
        return NewRun(id=request.task_id, row=row, delay_seconds=None, run_at=None)

    def _check_size(self, document: bytes) -> None:
        size = len(document)
        if size > self._limits.max_params_bytes:
            raise ParamsTooLarge(
                f"The parameters are {size} bytes; the limit is {self._limits.max_params_bytes}.",
                hint="Put the data on the storage and pass its key.",
            )

    def _check_options(self, request: RunRequest) -> None:
        options, limits = request.options, self._limits
        if len(request.labels) > MAX_LABELS:
            error = FieldError(
                ("labels",), f"must be at most {MAX_LABELS} labels", "too_many_labels"
            )
            raise InvalidOptions("A run has too many labels.", errors=[error])
        if not options.model_fields_set:
            return
        latest = utc_now() + timedelta(seconds=limits.max_delay_seconds)
        faults: list[tuple[str, str]] = []
        if options.queue is not None and options.queue not in self._queues:
            faults.append(
                ("queue", f"there is no such queue; there are: {', '.join(self._queues)}")
            )
        if (options.delay_seconds or 0) > limits.max_delay_seconds:
            faults.append(("delay_seconds", f"must be at most {limits.max_delay_seconds}"))
        if options.run_at is not None and options.run_at > latest:
            faults.append(
                ("run_at", f"must be at most {limits.max_delay_seconds} seconds from now")
            )
        if (options.timeout_seconds or 0) > limits.max_timeout_seconds:
            faults.append(("timeout_seconds", f"must be at most {limits.max_timeout_seconds}"))
        if (options.max_attempts or 0) > limits.max_attempts:
            faults.append(("max_attempts", f"must be at most {limits.max_attempts}"))
        if options.expires_at is not None and options.expires_at <= utc_now():
            faults.append(("expires_at", "lies in the past"))
        if faults:
            errors = [
                FieldError(("options", name), message, "invalid_option") for name, message in faults
            ]
            raise InvalidOptions("An option of the run is wrong.", errors=errors)


def _row(
    entry: CatalogueEntry, request: RunRequest, created_by: str, tenant: str | None, trace_id: str
) -> dict[str, Any]:
    """Return the columns that follow from the task and the wish alone."""
    options, policy = request.options, entry.options
    return {
        "id": request.task_id,
        "task": entry.name,
        "function": entry.spec.name,
        "task_version": policy.version,
        "options": {
            "timeout_seconds": options.timeout_seconds or policy.timeout_seconds,
            "backoff_seconds": policy.backoff_seconds,
            "backoff_max_seconds": policy.backoff_max_seconds,
            "jitter": policy.jitter,
            "on_failure": policy.on_failure,
        },
        "labels": dict(request.labels),
        "max_attempts": options.max_attempts or policy.max_attempts,
        "queue": options.queue or policy.queue,
        "priority": policy.priority if options.priority is None else options.priority,
        "expires_at": options.expires_at,
        "retention_days": policy.retention_days,
        "created_by": created_by,
        "tenant": tenant,
        "parent_id": request.parent_id,
        "batch_id": request.batch_id,
        "replay_of": request.replay_of,
        "trace_id": trace_id,
    }


def unique_key(task: str, params: Mapping[str, Any], tenant: str | None) -> str:
    """Return what equal runs have in common: a digest of task, parameters and tenant."""
    document = orjson.dumps([tenant, task, params], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(document).hexdigest()
