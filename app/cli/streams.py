"""Following a run on its stream of events: cut off, it resumes; without a stream, it polls."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from app.cli.client import Run
from app.cli.event_stream import StreamEvent
from app.cli.exit_codes import ExitCode
from app.cli.failures import CommandError
from app.cli.output import progress
from app.cli.text import printable
from app.cli.watching import Clock, follow

if TYPE_CHECKING:
    from rich.progress import TaskID

_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 1.0
_SILENCE_SECONDS = 30.0


class StreamReader(Protocol):
    """What is needed of the client."""

    def run(self, task_id: str) -> Run:
        """Return the run as it is now."""

    def stream(
        self, task_id: str, after: str | None, silence_seconds: float
    ) -> AbstractContextManager[Iterator[StreamEvent]]:
        """Open the run's stream behind an event; its iterator ends when the server says so.

        CommandError with SERVICE_UNREACHABLE when it is cut off or silent for so long.
        """


def follow_events(
    client: StreamReader,
    run: Run,
    *,
    timeout_seconds: float | None = None,
    on_event: Callable[[StreamEvent], None],
    tell: Callable[[str], None] = progress,
    clock: Clock = time,
) -> Run:
    """Return the run when it has ended, or as it was last seen when the time is over.

    Each event is told once. A server that has no stream to give is polled.
    """
    deadline = float("inf") if timeout_seconds is None else clock.monotonic() + timeout_seconds
    heard, seen, away = clock.monotonic(), None, False
    while (left := deadline - clock.monotonic()) > 0:
        before = seen
        try:
            with client.stream(run["task_id"], seen, min(left, _SILENCE_SECONDS)) as events:
                for event in events:
                    seen, heard, away = event.id, clock.monotonic(), False
                    on_event(event)
                    if event.kind == "end":
                        return client.run(run["task_id"])
                    if heard >= deadline:
                        return client.run(run["task_id"])
            # A stream that ends without a word is opened again, and not as fast as it ends.
            pause = 0.0 if seen != before else _PAUSE_SECONDS
        except CommandError as error:
            if error.failure.code in _NO_STREAM:
                left = max(0.0, deadline - clock.monotonic())
                return follow(
                    client,
                    run,
                    timeout_seconds=None if timeout_seconds is None else left,
                    tell=tell,
                    clock=clock,
                )
            if clock.monotonic() >= deadline:
                break
            if not _may_come_back(error, clock.monotonic() - heard):
                raise
            if not away:
                tell(f"{error.failure.detail} Trying again.")
            away, pause = True, _PAUSE_SECONDS
        clock.sleep(min(pause, max(0.0, deadline - clock.monotonic())))
    return client.run(run["task_id"])


# An older server, one that is full, and a proxy that lets no stream through.
_NO_STREAM = frozenset(
    {"NOT_FOUND", "STREAMS_FULL", "TOO_MANY_STREAMS", "HTTP_501", "UNEXPECTED_ANSWER"}
)


def _may_come_back(error: CommandError, silent_seconds: float) -> bool:
    return error.failure.exit_code is ExitCode.UNAVAILABLE and silent_seconds < _PATIENCE_SECONDS


def watch(client: StreamReader, run: Run, *, timeout_seconds: float | None = None) -> Run:
    """Follow a run as `follow_events` does, and show what happens on standard error."""
    with EventView(run) as view:
        return follow_events(
            client, run, timeout_seconds=timeout_seconds, on_event=view.show, tell=view.tell
        )


class EventView:
    """Shows a run's events on standard error: a bar on a terminal, else a line for each."""

    def __init__(self, run: Run) -> None:
        self._bar = _Bar(run) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        (self._bar or nullcontext()).__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)

    def show(self, event: StreamEvent) -> None:
        """Show one event."""
        if self._bar is not None:
            self._bar.show(event)
        elif event.kind != "end":
            progress(line_of(event))

    def tell(self, message: str) -> None:
        """Show a word about the connection."""
        if self._bar is not None:
            self._bar.write(message)
        else:
            progress(message)


class _Bar:
    def __init__(self, run: Run) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress: Progress = Progress(
            TextColumn("{task.fields[status]:9}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
        )
        # Without a total the bar moves to and fro: nobody knows how far it is.
        self._task: TaskID = self._progress.add_task("", total=None, status=run["status"], count="")

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: StreamEvent) -> None:
        data = event.data
        if event.kind == "progress":
            self._progress.update(
                self._task,
                completed=data["current"],
                total=data.get("total"),
                count=_count(data),
                description=printable(data.get("message") or ""),
            )
        elif event.kind == "log":
            self.write(line_of(event))
        else:
            status = data["to"] if event.kind == "status" else data["status"]
            self._progress.update(self._task, status=status)
            if event.kind == "status" and data["to"] == "RETRYING":
                self.write(line_of(event))

    def write(self, message: str) -> None:
        self._progress.console.print(printable(message), markup=False, highlight=False)


def line_of(event: StreamEvent) -> str:
    """Return an event as a line for people."""
    data = event.data
    at = str(data.get("at", ""))[11:19]
    if event.kind == "log":
        fields = " ".join(f"{key}={value}" for key, value in (data.get("fields") or {}).items())
        return " ".join(filter(None, (at, data["level"].upper().ljust(7), data["message"], fields)))
    if event.kind == "progress":
        return " ".join(filter(None, (at, _count(data), data.get("message"))))
    attempt = f"attempt {data['attempt']}" if data.get("attempt") else ""
    detail = data.get("detail") or {}
    why = str(detail.get("error") or "")
    return "  ".join(filter(None, (f"{at} {data.get('to') or data.get('status')}", attempt, why)))


def _count(data: dict[str, Any]) -> str:
    total = data.get("total")
    return f"{data['current']:g}" + (f" of {total:g}" if total is not None else "")
