"""The filters of the list of runs, read from the query string."""

from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import AfterValidator, TypeAdapter, ValidationError

from app.api.moments import Moment
from app.api.queries import accepts_query_prefix
from app.common.errors import FieldError, ValidationFailed
from app.common.ids import parse_id
from app.tasks.requests import MAX_LABELS, LabelKey, LabelValue
from app.tasks.runs import RunFilters
from app.tasks.statuses import Status

LABEL_PREFIX = "label."
_labels: TypeAdapter[dict[str, str]] = TypeAdapter(dict[LabelKey, LabelValue])

Limit = Annotated[int, Query(ge=1, le=200)]
Name = Annotated[str, Query(max_length=200)]
Id = Annotated[str, AfterValidator(parse_id)]
TraceId = Annotated[str, Query(pattern="^[0-9a-f]{32}$")]
Text = Annotated[str, Query(min_length=1, max_length=200)]


@accepts_query_prefix(LABEL_PREFIX)
async def read_filters(
    request: Request,
    *,
    status: Annotated[list[Status], Query()] = [],  # noqa: B006 - FastAPI copies it
    task: Name | None = None,
    queue: Name | None = None,
    created_after: Moment | None = None,
    created_before: Moment | None = None,
    batch_id: Id | None = None,
    parent_id: Id | None = None,
    trace_id: TraceId | None = None,
    q: Text | None = None,
) -> RunFilters:
    """Return what the list is narrowed to; `q` searches in task names and errors."""
    if created_after and created_before and created_after >= created_before:
        fault = FieldError(("query", "created_before"), "must be after created_after", "empty_span")
        raise ValidationFailed("The span of time is empty.", errors=[fault])
    return RunFilters(
        statuses=status,
        task=task,
        queue=queue,
        labels=_read_labels(request),
        created_after=created_after,
        created_before=created_before,
        batch_id=batch_id,
        parent_id=parent_id,
        trace_id=trace_id,
        q=q,
    )


def _read_labels(request: Request) -> dict[str, str]:
    given = {
        name.removeprefix(LABEL_PREFIX): value
        for name, value in sorted(request.query_params.items())
        if name.startswith(LABEL_PREFIX)
    }
    try:
        labels = _labels.validate_python(given)
    except ValidationError as error:
        faults = [
            FieldError(("query", f"{LABEL_PREFIX}{one['loc'][0]}"[:100]), one["msg"], one["type"])
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise ValidationFailed("A label is not valid.", errors=faults) from None
    if len(labels) > MAX_LABELS:
        raise ValidationFailed(f"At most {MAX_LABELS} labels can be asked for.")
    return labels


Filters = Annotated[RunFilters, Depends(read_filters)]
