"""Following a run to its end, with its progress on standard error."""

import sys
import time
from collections.abc import Callable
from typing import Protocol

from app.cli.client import Run
from app.cli.exit_codes import ExitCode
from app.cli.failures import CommandError, Failure
from app.cli.output import live_progress

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0
_BAR_WIDTH = 20
# So long may a service be away, for a restart, before a watch gives up.
_PATIENCE_SECONDS = 30.0


class RunReader(Protocol):
    """What is needed of the client."""

    def run(self, task_id: str) -> Run:
        """Return the run as it is now."""


class Clock(Protocol):
    """The time and the passing of it."""

    def monotonic(self) -> float:
        """Return a number of seconds that never goes back."""

    def sleep(self, seconds: float, /) -> None:
        """Return after so many seconds."""


def follow(
    client: RunReader,
    run: Run,
    *,
    timeout_seconds: float | None = None,
    tell: Callable[[str], None] | None = None,
    clock: Clock = time,
) -> Run:
    """Return the run when it has ended, or as it was last seen when the time is over.

    A terminal shows one line with a bar, redrawn; anything else one line for each change.
    """
    with_bar = tell is None and sys.stderr.isatty()
    tell = tell or live_progress()
    started = heard = clock.monotonic()
    pause = _FIRST_PAUSE_SECONDS
    told = None
    away = False
    while True:
        if not away and (line := _line(run, with_bar=with_bar)) != told:
            told = line
            tell(line)
        left = _left(started, timeout_seconds, clock)
        # The answer to a submission may say that it has ended, and has no result in it.
        is_whole = "attempt" in run
        if left <= 0 or (is_whole and run["status"] in ENDED):
            return run
        clock.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
        try:
            run, away, heard = client.run(run["task_id"]), False, clock.monotonic()
        except CommandError as error:
            if not _may_come_back(error, clock.monotonic() - heard):
                raise
            if not away:
                tell(f"{error.failure.detail} Trying again.")
            away = True


def require_success(run: Run, timeout_seconds: float | None = None) -> None:
    """Raise CommandError unless the run succeeded: exit 6 while it goes on, else 1."""
    status, task_id = run["status"], run["task_id"]
    if status == "SUCCEEDED":
        return
    if status not in ENDED:
        raise CommandError(
            Failure(
                code="TIMED_OUT",
                detail=f"The run is still {status} after {timeout_seconds or 0:g} s; it goes on.",
                exit_code=ExitCode.TIMED_OUT,
                next_command=f"taskyard runs watch {task_id}",
            )
        )
    error = run.get("error") or {}
    why = f" {error.get('type')}: {error.get('message')}" if error else ""
    raise CommandError(
        Failure(
            code=f"RUN_{status}",
            detail=f"The run ended as {status}.{why}",
            exit_code=ExitCode.FAILED,
            next_command=f"taskyard runs logs {task_id}",
        )
    )


def _left(started: float, timeout_seconds: float | None, clock: Clock) -> float:
    if timeout_seconds is None:
        return float("inf")
    return started + timeout_seconds - clock.monotonic()


def _may_come_back(error: CommandError, silent_seconds: float) -> bool:
    return error.failure.exit_code is ExitCode.UNAVAILABLE and silent_seconds < _PATIENCE_SECONDS


def _line(run: Run, *, with_bar: bool) -> str:
    parts = [run["task_id"], run["status"]]
    if run.get("attempt", 0) > 1:
        parts.append(f"attempt {run['attempt']} of {run.get('max_attempts')}")
    if state := run.get("progress"):
        total = state.get("total")
        parts.append(_bar(state.get("current"), total) if with_bar else "")
        parts.append(f"{state.get('current'):g}" + (f" of {total:g}" if total is not None else ""))
        parts.append(str(state.get("message") or ""))
    return "  ".join(part for part in parts if part)


def _bar(current: float | None, total: float | None) -> str:
    if not total or current is None:
        return ""
    done = round(min(1.0, max(0.0, current / total)) * _BAR_WIDTH)
    return f"[{'#' * done}{'.' * (_BAR_WIDTH - done)}]"
