"""`taskyard tasks`: the registry, and running a task, through the API."""

from typing import Annotated, Any, cast

import typer

from app.cli.failures import suggesting
from app.cli.options import DEFAULT_URL, Output, Token, Url, examples
from app.cli.output import Record, print_record, print_rows
from app.cli.params import read_labels, read_params

_COLUMNS = ("name", "plugin", "kind", "queue", "description")

commands = typer.Typer(no_args_is_help=True, help="List, look at and run the tasks of a service.")

TaskName = Annotated[
    str, typer.Argument(metavar="NAME", help="The task's name.", show_default=False)
]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(commands, name="tasks")


@commands.command("list", epilog=examples("taskyard tasks list", "taskyard tasks list -o jsonl"))
def list_tasks(*, url: Url = DEFAULT_URL, token: Token = None, output: Output = None) -> None:
    """List the tasks that can be run."""
    from app.cli.client import Client

    with Client(url, token) as client:
        tasks = client.registered_tasks()
    print_rows(cast("list[Record]", tasks), _COLUMNS, output)


@commands.command("show", epilog=examples("taskyard tasks show lint.sql"))
def show_task(
    name: TaskName, *, url: Url = DEFAULT_URL, token: Token = None, output: Output = None
) -> None:
    """Show a task: its parameters, its result, its queue, its retries."""
    from app.cli.client import Client

    with Client(url, token) as client:
        task = client.registered_task(name)
    print_record(cast("Record", task), output)


@commands.command(
    "run",
    epilog=examples(
        "taskyard tasks run lint.sql -p sql='SELECT 1' --wait",
        "taskyard tasks run lint.sql --json @params.json --idempotency-key night-2026-01-31",
        "cat params.json | taskyard tasks run lint.sql --json -",
        "taskyard tasks run lint.sql --json @params.json --delay 3600 --label team=data",
    ),
)
def run_task(  # noqa: PLR0913 - each one is an option of the command
    name: TaskName,
    *,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="KEY=VALUE",
            help="A parameter: JSON where the task wants no text, else text. Repeatable.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(
            "--json",
            metavar="JSON|@FILE|-",
            help="The parameters as a JSON object: in place, in a file, or on standard input.",
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
            help="The same key gives the same run for 24 hours, however often it is sent.",
            show_default=False,
        ),
    ] = None,
    delay: Annotated[
        float | None,
        typer.Option("--delay", metavar="SECONDS", min=0, help="Start it so much later."),
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", min=0, max=9, help="7 to 9 go first, 0 to 2 last.")
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", help="Another queue than the task's.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="KEY=VALUE",
            help="A label to find it by. Repeatable.",
            show_default=False,
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Run a task and print the run."""
    from app.cli.client import Client
    from app.cli.streams import watch
    from app.cli.watching import require_success

    about_task = f"taskyard tasks show {name}"
    with (
        suggesting({"INVALID_PARAMS": about_task, "VALIDATION_FAILED": about_task}),
        Client(url, token) as client,
    ):
        params = read_params(
            param or [], json, lambda: client.registered_task(name)["params_schema"]
        )
        wish: dict[str, Any] = {"task": name, "params": params}
        options = {"delay_seconds": delay, "priority": priority, "queue": queue}
        if given := {key: value for key, value in options.items() if value is not None}:
            wish["options"] = given
        if label:
            wish["labels"] = read_labels(label)
        run = client.run_task(wish, idempotency_key=idempotency_key)
        if wait:
            run = watch(client, run, timeout_seconds=timeout)
    print_record(cast("Record", run), output, without=("links",))
    if wait:
        require_success(run, timeout)
