"""The filters of the list of runs, read from the query string."""

from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from app.api.moments import Moment
from app.api.queries import accepts_query_prefix
from app.common.errors import FieldError, ValidationFailed
from app.common.ids import parse_id
from app.tasks.requests import MAX_LABELS, LabelKey, LabelValue
from app.tasks.run_lists import RunFilters
from app.tasks.statuses import Status

LABEL_PREFIX = "label."
LABEL_PARAMETER = {
    "name": "labels",
    "in": "query",
    "description": "`label.KEY=VALUE`, once for each label that a run must have.",
    "style": "form",
    "explode": True,
    "schema": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "propertyNames": {"pattern": r"^label\.[A-Za-z0-9]"},
    },
}
_labels: TypeAdapter[dict[str, str]] = TypeAdapter(dict[LabelKey, LabelValue])

Limit = Annotated[int, Query(ge=1, le=200)]
Id = Annotated[str, AfterValidator(parse_id), Field(json_schema_extra={"format": "uuid"})]


class RunQuery(BaseModel):
    """The filters with a name of their own; labels come beside them."""

    status: list[Status] = []
    task: Annotated[str, Field(max_length=200)] | None = None
    queue: Annotated[str, Field(max_length=64)] | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    batch_id: Id | None = None
    parent_id: Id | None = None
    schedule_id: Id | None = None
    trace_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    q: (
        Annotated[
            str,
            Field(min_length=1, max_length=200, description="Part of a task's name or an error."),
        ]
        | None
    ) = None


@accepts_query_prefix(LABEL_PREFIX)
async def read_filters(query: Annotated[RunQuery, Query()], request: Request) -> RunFilters:
    """Return what the list is narrowed to."""
    after, before = query.created_after, query.created_before
    if after and before and after >= before:
        fault = FieldError(("query", "created_before"), "must be after created_after", "empty_span")
        raise ValidationFailed("The span of time is empty.", errors=[fault])
    exact = query.model_dump(exclude={"status"})
    return RunFilters(statuses=query.status, labels=_read_labels(request), **exact)


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
