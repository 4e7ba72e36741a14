"""The exit codes that scripts rely on."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    UNAVAILABLE = 5
    TIMED_OUT = 6


_BY_STATUS = {
    401: ExitCode.NOT_ALLOWED,
    403: ExitCode.NOT_ALLOWED,
    404: ExitCode.NOT_FOUND,
    408: ExitCode.UNAVAILABLE,
    # The input was right, but the state of the thing forbids it.
    409: ExitCode.FAILED,
    410: ExitCode.NOT_FOUND,
    429: ExitCode.UNAVAILABLE,
    502: ExitCode.UNAVAILABLE,
    503: ExitCode.UNAVAILABLE,
    504: ExitCode.UNAVAILABLE,
}


def exit_code_of_status(status: int) -> ExitCode:
    """Return the exit code that an HTTP status stands for."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return ExitCode.USAGE if 400 <= status < 500 else ExitCode.FAILED
