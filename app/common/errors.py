"""The error tree.

    TaskyardError                  500 INTERNAL_ERROR
    |-- BadRequest                 400 BAD_REQUEST
    |-- Unauthorized               401 UNAUTHORIZED
    |-- Forbidden                  403 FORBIDDEN
    |-- NotFound                   404 NOT_FOUND
    |-- Conflict                   409 CONFLICT
    |-- PayloadTooLarge            413 PAYLOAD_TOO_LARGE
    |-- UnsupportedMediaType       415 UNSUPPORTED_MEDIA_TYPE
    |-- ValidationFailed           422 VALIDATION_FAILED
    |-- TooManyRequests            429 TOO_MANY_REQUESTS
    |-- ServiceUnavailable         503 SERVICE_UNAVAILABLE
    `-- ConfigurationError         stops the start of a process

Each room defines its own subclasses beside the code that raises them. The first
paragraph of a class's docstring is the meaning that ``GET /api/v1/errors`` shows.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple


class FieldError(NamedTuple):
    """One wrong field: where it is, what is wrong, and a stable name of the fault."""

    loc: tuple[str | int, ...]
    msg: str
    type: str


class TaskyardError(Exception):
    """Something failed that the caller cannot repair; the trace id leads to the log."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str = "",
        *,
        hint: str | None = None,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.hint = hint
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        # Extension members of the problem document (RFC 9457, section 3.2), for programs.
        self.members = dict(members or {})


class BadRequest(TaskyardError):
    """The request cannot be understood as it stands."""

    code = "BAD_REQUEST"
    status = 400
    title = "Bad request"


class Unauthorized(TaskyardError):
    """No valid access token came with the request."""

    code = "UNAUTHORIZED"
    status = 401
    title = "Not authenticated"


class Forbidden(TaskyardError):
    """The caller is known but lacks the scope that this action needs."""

    code = "FORBIDDEN"
    status = 403
    title = "Not allowed"


class NotFound(TaskyardError):
    """The thing does not exist, or the caller may not see it."""

    code = "NOT_FOUND"
    status = 404
    title = "Not found"


class Conflict(TaskyardError):
    """The state of the thing does not permit this action now."""

    code = "CONFLICT"
    status = 409
    title = "Conflict"


class PayloadTooLarge(TaskyardError):
    """The body is larger than the configured limit."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413
    title = "Payload too large"


class UnsupportedMediaType(TaskyardError):
    """The body's content type or encoding is not one that this route reads."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415
    title = "Unsupported media type"


class ValidationFailed(TaskyardError):
    """One or more fields break the schema; ``errors`` has one entry per field."""

    code = "VALIDATION_FAILED"
    status = 422
    title = "Validation failed"


class TooManyRequests(TaskyardError):
    """The caller is over a rate limit; ``Retry-After`` says when to come back."""

    code = "TOO_MANY_REQUESTS"
    status = 429
    title = "Too many requests"

    def __init__(
        self,
        detail: str = "",
        *,
        policy: str,
        limit: int,
        retry_after_seconds: int,
        window_seconds: int | None = None,
    ) -> None:
        # The fields of the IETF draft on RateLimit headers; a limit on what is open has no window.
        window = "" if window_seconds is None else f";w={window_seconds}"
        super().__init__(
            detail,
            headers={
                "Retry-After": str(retry_after_seconds),
                "RateLimit-Policy": f'"{policy}";q={limit}{window}',
                "RateLimit": f'"{policy}";r=0;t={retry_after_seconds}',
            },
        )


class ServiceUnavailable(TaskyardError):
    """A service that this request needs does not answer; try again shortly."""

    code = "SERVICE_UNAVAILABLE"
    status = 503
    title = "Service unavailable"


class ConfigurationError(TaskyardError):
    """The settings, a plugin or a task declaration are wrong; the process does not start."""

    code = "CONFIGURATION_ERROR"
    title = "Wrong configuration"


def meaning_of(error: type[TaskyardError]) -> str:
    """Return the first paragraph of the class's docstring on one line."""
    return " ".join((error.__doc__ or "").strip().partition("\n\n")[0].split())


def all_errors() -> list[type[TaskyardError]]:
    """Return every error class that is loaded, one per code, sorted by code."""
    by_code: dict[str, type[TaskyardError]] = {}
    for error in _walk(TaskyardError):
        by_code.setdefault(error.code, error)
    return [by_code[code] for code in sorted(by_code)]


def _walk(error: type[TaskyardError]) -> Iterator[type[TaskyardError]]:
    yield error
    for child in error.__subclasses__():
        yield from _walk(child)
