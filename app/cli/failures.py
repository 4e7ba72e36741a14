"""How a command fails: code, what happened, the cure, and the command to run next."""

import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from app.cli.exit_codes import ExitCode, exit_code_of_status
from app.cli.text import printable
from app.common.errors import ConfigurationError, ServiceUnavailable, TaskyardError
from app.common.redaction import mask_text

GET_TOKEN = 'export TASKYARD_TOKEN="$(taskyard token)"'  # noqa: S105 - a command

_NEXT_BY_CODE = {
    "TASK_NOT_REGISTERED": "taskyard tasks list",
    "RUN_NOT_FOUND": "taskyard runs list",
    "MIGRATION_ERROR": "taskyard db status",
    "PLUGIN_LOAD_ERROR": "taskyard config show",
    "UNKNOWN_BIND": "taskyard config show",
}
_NEXT_BY_EXIT = {
    ExitCode.NOT_ALLOWED: GET_TOKEN,
    ExitCode.UNAVAILABLE: "taskyard config show",
}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What is told about a command that did not do its work."""

    code: str
    detail: str
    exit_code: ExitCode
    hint: str | None = None
    fields: Sequence[tuple[str, str]] = ()
    next_command: str | None = None
    trace_id: str | None = None


class CommandError(Exception):
    """Ends a command; what it tells is printed on standard error, without a traceback."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


def usage_error(
    detail: str, *, hint: str | None = None, next_command: str | None = None
) -> CommandError:
    """Return the error for a command that was called in a way that cannot work."""
    return CommandError(
        Failure(
            code="USAGE",
            detail=detail,
            exit_code=ExitCode.USAGE,
            hint=hint,
            next_command=next_command,
        )
    )


@contextmanager
def suggesting(commands: Mapping[str, str]) -> Iterator[None]:
    """Give the failures of the block, by code, a next command that names what was worked on."""
    try:
        yield
    except (CommandError, TaskyardError) as error:
        failure = failure_of(error)
        next_command = commands.get(failure.code, failure.next_command)
        raise CommandError(replace(failure, next_command=next_command)) from error


def failure_of(error: BaseException) -> Failure:
    """Return what is told about any exception; the text of an unexpected one is masked."""
    if isinstance(error, CommandError):
        return error.failure
    if isinstance(error, TaskyardError):
        return Failure(
            code=error.code,
            detail=mask_text(error.detail),
            exit_code=_exit_code(error),
            hint=error.hint or _cause_hint(error),
            fields=[(place(one.loc), one.msg) for one in error.errors],
        )
    name = type(error).__name__
    return Failure(
        code="INTERNAL_ERROR",
        detail=mask_text(f"{name}: {_first_line(error)}"),
        exit_code=ExitCode.FAILED,
        hint="Run the command again with TASKYARD_TRACEBACK=1 to see where it happened.",
    )


def report(error: Exception, *, help_command: str) -> ExitCode:
    """Print the failure on standard error; return the exit code.

    `help_command` is what to run next when nothing better is known.
    """
    if os.environ.get("TASKYARD_TRACEBACK"):
        traceback.print_exception(error)
    failure = failure_of(error)
    print(*lines_of(failure, help_command), sep="\n", file=sys.stderr)
    return failure.exit_code


def lines_of(failure: Failure, help_command: str) -> Iterator[str]:
    """Yield the lines that tell a failure."""
    yield printable(f"error {failure.code}: {failure.detail}")
    for where, message in failure.fields:
        yield printable(f"  {where}: {message}")
    if failure.hint:
        yield printable(f"hint: {failure.hint}")
    yield printable(f"next: {_next_command(failure, help_command)}")
    if failure.trace_id:
        yield printable(f"trace id: {failure.trace_id}")


def place(loc: Sequence[str | int]) -> str:
    """Return where a wrong field is, as in `params.rows.3`."""
    return ".".join(str(part) for part in loc)


def _cause_hint(error: TaskyardError) -> str | None:
    # A client is not told why a service is away; who administers the host has to know.
    if not isinstance(error, ServiceUnavailable) or error.__cause__ is None:
        return None
    return mask_text(f"The cause: {_first_line(error.__cause__)}")


def _exit_code(error: TaskyardError) -> ExitCode:
    # Wrong settings are mended by who calls the command, as wrong options are.
    if isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    return exit_code_of_status(error.status)


def _next_command(failure: Failure, help_command: str) -> str:
    if failure.next_command:
        return failure.next_command
    by_exit = _NEXT_BY_EXIT.get(failure.exit_code, help_command)
    return _NEXT_BY_CODE.get(failure.code, by_exit)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0]
