"""`taskyard runs`: looking at runs and steering them, through the API."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from app.cli.exit_codes import ExitCode
from app.cli.failures import CommandError, Failure, suggesting
from app.cli.options import DEFAULT_URL, Output, Token, Url, examples
from app.cli.output import (
    OutputFormat,
    Record,
    chosen_format,
    print_line,
    print_record,
    print_rows,
)
from app.cli.params import read_labels, read_params
from app.common.ids import parse_id

if TYPE_CHECKING:
    from app.cli.client import Client, Run

_COLUMNS = ("task_id", "task", "status", "attempt", "queue", "created_at")
_HIDDEN = ("links",)


class Level(StrEnum):
    """How much a line matters."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


commands = typer.Typer(no_args_is_help=True, help="List, look at, watch, cancel and rerun runs.")

RunId = Annotated[str, typer.Argument(metavar="ID", help="The run's id.", show_default=False)]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(commands, name="runs")


@commands.command(
    "list",
    epilog=examples(
        "taskyard runs list --status FAILED --task lint.sql",
        "taskyard runs list --label job=night -o jsonl --limit 1000",
    ),
)
def list_runs(  # noqa: PLR0913 - each one is a filter of the list
    *,
    status: Annotated[
        list[str] | None,
        typer.Option("--status", help="Only runs in this status. Repeatable.", show_default=False),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Only runs of this task.", show_default=False)
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", help="Only runs on this queue.", show_default=False)
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="KEY=VALUE",
            help="Only runs with this label. Repeatable.",
            show_default=False,
        ),
    ] = None,
    created_after: Annotated[
        str | None,
        typer.Option(
            "--created-after", metavar="TIME", help="RFC 3339, like 2026-01-02T03:04:05Z."
        ),
    ] = None,
    created_before: Annotated[
        str | None, typer.Option("--created-before", metavar="TIME", help="RFC 3339.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", metavar="ID", help="Only runs of this batch.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="ID", help="Only children of this run.")
    ] = None,
    trace: Annotated[
        str | None, typer.Option("--trace", metavar="ID", help="Only runs of this trace.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", metavar="TEXT", help="Part of a task's name or an error."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """List runs, newest first."""
    from app.cli.client import Client, RunFilters

    filters = RunFilters(
        statuses=[one.upper() for one in status or ()],
        task=task,
        queue=queue,
        labels=read_labels(label or ()),
        created_after=created_after,
        created_before=created_before,
        batch_id=batch,
        parent_id=parent,
        trace_id=trace,
        q=search,
    )
    with Client(url, token) as client:
        runs = list(client.runs(filters, limit))
    print_rows(cast("list[Record]", runs), _COLUMNS, output)


@commands.command(
    "show", epilog=examples("taskyard runs show 01890a5d-ac96-774b-bcce-b302099a8057")
)
def show_run(
    run_id: RunId, *, url: Url = DEFAULT_URL, token: Token = None, output: Output = None
) -> None:
    """Show a run: status, parameters, result or error."""
    from app.cli.client import Client

    with Client(url, token) as client:
        run = client.run(_checked(run_id))
    print_record(cast("Record", run), output, without=_HIDDEN)


@commands.command(
    "watch",
    epilog=examples("taskyard runs watch 01890a5d-ac96-774b-bcce-b302099a8057 --timeout 60"),
)
def watch_run(
    run_id: RunId,
    *,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0,
            help="How long; then exit 6. The run goes on.",
            show_default=False,
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Follow a run to its end; exit 1 unless it succeeds."""
    from app.cli.client import Client
    from app.cli.streams import watch
    from app.cli.watching import require_success

    with Client(url, token) as client:
        run = watch(client, client.run(_checked(run_id)), timeout_seconds=timeout)
    print_record(cast("Record", run), output, without=_HIDDEN)
    require_success(run, timeout)


@commands.command(
    "logs",
    epilog=examples(
        "taskyard runs logs 01890a5d-ac96-774b-bcce-b302099a8057 --level warning",
        "taskyard runs logs 01890a5d-ac96-774b-bcce-b302099a8057 --follow",
    ),
)
def show_logs(
    run_id: RunId,
    *,
    level: Annotated[
        Level | None, typer.Option("--level", help="This level and those above it.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Print the lines that the task wrote through its context."""
    from app.cli.client import Client

    with Client(url, token) as client:
        if follow:
            _follow_logs(client, client.run(_checked(run_id)), level, output)
            return
        lines = list(client.logs(_checked(run_id), level))
    print_rows(cast("list[Record]", lines), ("at", "level", "message", "fields"), output)


def _follow_logs(
    client: "Client", run: "Run", level: Level | None, output: OutputFormat | None
) -> None:
    from app.cli.event_stream import StreamEvent
    from app.cli.streams import follow_events, line_of

    wanted = list(Level)[list(Level).index(level) if level else 0 :]
    is_table = chosen_format(output) is OutputFormat.TABLE

    def show(event: StreamEvent) -> None:
        if event.kind != "log" or event.data["level"] not in wanted:
            return
        if is_table:
            print_line(line_of(event))
        else:
            # An array would have no end: each line is a document of its own.
            print_rows([event.data], (), OutputFormat.JSONL)

    follow_events(client, run, on_event=show)


@commands.command(
    "cancel", epilog=examples("taskyard runs cancel 01890a5d-ac96-774b-bcce-b302099a8057")
)
def cancel_run(
    run_id: RunId, *, url: Url = DEFAULT_URL, token: Token = None, output: Output = None
) -> None:
    """Cancel a run that waits, or ask a running one to stop."""
    from app.cli.client import Client

    suggestion = {"RUN_HAS_ENDED": f"taskyard runs show {run_id}"}
    with suggesting(suggestion), Client(url, token) as client:
        run = client.cancel(_checked(run_id))
    print_record(cast("Record", run), output, without=_HIDDEN)


@commands.command(
    "rerun",
    epilog=examples(
        "taskyard runs rerun 01890a5d-ac96-774b-bcce-b302099a8057 --wait",
        "taskyard runs rerun 01890a5d-ac96-774b-bcce-b302099a8057 -p dialect=mysql",
    ),
)
def rerun_run(  # noqa: PLR0913 - each one is an option of the command
    run_id: RunId,
    *,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="KEY=VALUE",
            help="A parameter to change; the others stay as they were. Repeatable.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(
            "--json",
            metavar="JSON|@FILE|-",
            help="All parameters as a JSON object, in place of those that there were.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end; exit 1 unless it succeeds.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0,
            help="With --wait: how long; then exit 6. The run goes on.",
            show_default=False,
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            metavar="KEY",
            help="The same key gives the same new run for 24 hours.",
            show_default=False,
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Run a run again, perhaps with other parameters, and print the new run."""
    from app.cli.client import Client
    from app.cli.streams import watch
    from app.cli.watching import require_success

    old_id = _checked(run_id)
    suggestion = {"INVALID_PARAMS": f"taskyard runs show {old_id}"}
    with suggesting(suggestion), Client(url, token) as client:
        params = _new_params(client, client.run(old_id), param or [], json)
        run = client.rerun(old_id, params, idempotency_key=idempotency_key)
        if wait:
            run = watch(client, run, timeout_seconds=timeout)
    print_record(cast("Record", run), output, without=("links",))
    if wait:
        require_success(run, timeout)


def _new_params(
    client: "Client", run: "Run", pairs: Sequence[str], document: str | None
) -> dict[str, Any] | None:
    """Return the parameters of the new run, None when they stay as they were."""
    if not pairs and document is None:
        return None
    given = read_params(
        pairs, document, lambda: client.registered_task(run["task"])["params_schema"]
    )
    return given if document is not None else {**run.get("params", {}), **given}


@commands.command(
    "explain", epilog=examples("taskyard runs explain 01890a5d-ac96-774b-bcce-b302099a8057")
)
def explain_run(
    run_id: RunId, *, url: Url = DEFAULT_URL, token: Token = None, output: Output = None
) -> None:
    """Tell why a run is not running: its due time, queue, limit, broker or end."""
    from app.cli.queue_client import QueueClient

    with QueueClient(url, token) as client:
        told = client.explanation(_checked(run_id))
    if chosen_format(output) is not OutputFormat.TABLE:
        print_record(told, output)
        return
    print_record({"task_id": told["task_id"], "status": told["status"]}, output)
    print_rows(told["reasons"], ("code", "message"), output)


def _checked(run_id: str) -> str:
    # Anything else would be a step to another resource ("registered") or a page of errors.
    try:
        return parse_id(run_id)
    except ValueError:
        raise CommandError(
            Failure(
                code="RUN_NOT_FOUND",
                detail=f"'{run_id[:80]}' is not the id of a run.",
                exit_code=ExitCode.NOT_FOUND,
            )
        ) from None
