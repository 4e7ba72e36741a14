"""Errors that only HTTP knows; the rest of the tree is in `app.common.errors`."""

from app.common.errors import BadRequest, ServiceUnavailable, TaskyardError, TooManyRequests


class MalformedRequest(BadRequest):
    """The request is framed in a way that two HTTP implementations could read differently."""

    code = "MALFORMED_REQUEST"
    title = "Malformed request"


class MethodNotAllowed(TaskyardError):
    """The path exists, but not with this method; ``Allow`` lists the methods it has."""

    code = "METHOD_NOT_ALLOWED"
    status = 405
    title = "Method not allowed"


class RequestTimeout(TaskyardError):
    """The body did not arrive in time."""

    code = "REQUEST_TIMEOUT"
    status = 408
    title = "Request timed out"


class StreamsFull(ServiceUnavailable):
    """This process serves as many streams as `streams.max_open` allows; try again, or poll."""

    code = "STREAMS_FULL"
    title = "No room for another stream"


class TooManyStreams(TooManyRequests):
    """The caller follows as many runs as `streams.max_open_per_caller` allows."""

    code = "TOO_MANY_STREAMS"
    title = "Too many streams"

    def __init__(self, *, limit: int, retry_after_seconds: int) -> None:
        super().__init__(
            f"You follow {limit} runs here already.",
            policy="streams",
            limit=limit,
            retry_after_seconds=retry_after_seconds,
        )


class UriTooLong(TaskyardError):
    """The path and query together are longer than the server reads."""

    code = "URI_TOO_LONG"
    status = 414
    title = "URI too long"


class HeadersTooLarge(TaskyardError):
    """The header fields are too many or too large."""

    code = "HEADERS_TOO_LARGE"
    status = 431
    title = "Header fields too large"


class HttpError(TaskyardError):
    """Another HTTP status that a route answers with; ``status`` and ``detail`` say which."""

    code = "HTTP_ERROR"
    status = 400
    title = "HTTP error"
