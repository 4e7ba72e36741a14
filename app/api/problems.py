"""One shape for every error: RFC 9457 `application/problem+json`."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.api.errors import (
    HeadersTooLarge,
    HttpError,
    MethodNotAllowed,
    RequestTimeout,
    UriTooLong,
)
from app.api.outages import is_outage
from app.common import errors
from app.common.logging import get_logger
from app.common.strict_json import dump_bytes
from app.common.tracing import current_trace_id

PROBLEM_JSON = "application/problem+json"
ERRORS_PATH = "/api/v1/errors"
RETRY_AFTER_SECONDS = "2"
# A body can be wrong in a hundred thousand places; the answer stays small.
MAX_ERRORS = 100
_MAX_TEXT = 500
log = get_logger(__name__)

_BY_STATUS: dict[int, type[errors.TaskyardError]] = {
    error.status: error
    for error in (
        errors.BadRequest,
        errors.Unauthorized,
        errors.Forbidden,
        errors.NotFound,
        errors.Conflict,
        errors.PayloadTooLarge,
        errors.UnsupportedMediaType,
        errors.ValidationFailed,
        errors.TooManyRequests,
        errors.ServiceUnavailable,
        errors.TaskyardError,
        MethodNotAllowed,
        RequestTimeout,
        UriTooLong,
        HeadersTooLarge,
    )
}
_DEFAULT_HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": RETRY_AFTER_SECONDS},
    503: {"Retry-After": RETRY_AFTER_SECONDS},
}


class ProblemField(BaseModel):
    """One wrong field."""

    loc: list[str | int] = Field(description="The place, from the part of the request inwards.")
    msg: str
    type: str = Field(description="A stable name of the fault.")


class Problem(BaseModel):
    """An error as RFC 9457 describes it, with a stable `code`."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="Where the code is explained.")
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable SCREAMING_SNAKE name; `GET /api/v1/errors` lists them.")
    trace_id: str | None = Field(description="Leads to the lines of this request in the log.")
    errors: list[ProblemField] | None = None
    hint: str | None = None


def as_taskyard_error(error: Exception) -> errors.TaskyardError | None:
    """Return the error of our own tree for the exception, None for an unexpected one."""
    if isinstance(error, errors.TaskyardError):
        return error
    if isinstance(error, RequestValidationError):
        return _validation_failed(error.errors())
    if is_outage(error):
        return errors.ServiceUnavailable(
            "A service that this request needs does not answer; try again shortly."
        )
    return None


def problem_response(error: Exception) -> Response:
    """Return the answer for any exception; for an unexpected one it tells the trace id only."""
    if isinstance(error, HTTPException):
        return _http_problem(error)
    known = as_taskyard_error(error) or errors.TaskyardError(
        "Something failed on the server; the trace id leads to its log."
    )
    return _answer(
        Problem(
            type=f"{ERRORS_PATH}/{known.code}",
            title=known.title,
            status=known.status,
            detail=known.detail,
            code=known.code,
            trace_id=current_trace_id(),
            errors=[_field(one) for one in known.errors[:MAX_ERRORS]] or None,
            hint=known.hint,
        ),
        known.headers,
        known.members,
    )


def answered(error: errors.TaskyardError) -> Response:
    """Return the answer for an error of ours; one of the server's is told to the log as well."""
    if error.status >= 500:
        # The access log tells the status only; this tells which service, and of what it failed.
        log.warning(
            "http.service_unavailable", code=error.code, cause=type(error.__cause__).__name__
        )
    return problem_response(error)


def _http_problem(error: HTTPException) -> Response:
    known = _BY_STATUS.get(error.status_code, HttpError)
    title = known.title if known is not HttpError else _phrase(error.status_code)
    detail = str(error.detail or "")
    if detail in ("", _phrase(error.status_code)):
        # Starlette's own texts repeat the status; the class says what it means here.
        detail = (known.__doc__ or title).splitlines()[0]
    problem = Problem(
        type=f"{ERRORS_PATH}/{known.code}",
        title=title,
        status=error.status_code,
        detail=detail,
        code=known.code,
        trace_id=current_trace_id(),
    )
    return _answer(problem, error.headers or {})


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "HTTP error"


def _answer(
    problem: Problem, headers: Mapping[str, str], members: Mapping[str, str] | None = None
) -> Response:
    document = {**(members or {}), **problem.model_dump(exclude_none=True)}
    document.setdefault("trace_id", None)
    return Response(
        dump_bytes(_clean(document)),
        status_code=problem.status,
        headers={**_DEFAULT_HEADERS.get(problem.status, {}), **headers},
        media_type=PROBLEM_JSON,
    )


def _field(error: errors.FieldError) -> ProblemField:
    return ProblemField(loc=list(error.loc), msg=error.msg, type=error.type)


def _validation_failed(details: Sequence[Any]) -> errors.ValidationFailed:
    # `input` and `ctx` of pydantic's entries may hold what was sent, so they are left out.
    fields = [
        errors.FieldError(tuple(one["loc"]), str(one["msg"]), str(one["type"]))
        for one in details[:MAX_ERRORS]
    ]
    count = len(details)
    noun = "field is" if count == 1 else "fields are"
    return errors.ValidationFailed(f"{count} {noun} not valid.", errors=fields)


def _clean(value: Any) -> Any:
    """Return the document with texts that are bounded and that UTF-8 can hold."""
    if isinstance(value, str):
        return value[:_MAX_TEXT].encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value
