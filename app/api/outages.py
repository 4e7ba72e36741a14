"""Which exceptions mean that a service is away, so that the answer is 503 and not 500.

`app.db` raises our own errors for the faults of a database; this is the net below it.
"""

from sqlalchemy import exc

_WRONG_PATH = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)


def is_outage(error: BaseException) -> bool:
    """Return whether the exception says that a database, a disk or a service does not answer."""
    if isinstance(error, exc.DBAPIError):
        return error.connection_invalidated or isinstance(
            error, exc.OperationalError | exc.InterfaceError
        )
    if isinstance(error, OSError):
        # Refused, unreachable, timed out, disk full: all but a wrong path.
        return not isinstance(error, _WRONG_PATH)
    return isinstance(error, exc.TimeoutError)
