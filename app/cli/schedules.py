"""`taskyard schedules`: tasks that run by themselves, through the API."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, cast

import typer

from app.cli.exit_codes import ExitCode
from app.cli.failures import CommandError, Failure, suggesting, usage_error
from app.cli.options import DEFAULT_URL, Output, Token, Url, examples
from app.cli.output import OutputFormat, Record, chosen_format, print_record, print_rows
from app.cli.params import read_params
from app.common.ids import parse_id

if TYPE_CHECKING:
    from app.cli.schedule_client import ScheduleClient

_LIST = (
    "id",
    "name",
    "task",
    "when",
    "timezone",
    "is_active",
    "next_fire_at",
    "last_fire_at",
    "error",
)
_FIRINGS = ("fire_time", "outcome", "trigger", "run_id", "reason")
_HIDDEN = ("links",)
_EXAMPLE_ID = "01890a5d-ac96-774b-bcce-b302099a8057"

commands = typer.Typer(
    no_args_is_help=True, help="Make, look at, pause and run tasks that run by themselves."
)
ScheduleId = Annotated[
    str, typer.Argument(metavar="ID", help="The schedule's id.", show_default=False)
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(commands, name="schedules")


@commands.command(
    "list",
    epilog=examples("taskyard schedules list", "taskyard schedules list --task lint.sql -o jsonl"),
)
def list_schedules(
    *,
    task: Annotated[
        str | None, typer.Option("--task", help="Only those of this task.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Only that of this name.", show_default=False)
    ] = None,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """List schedules, newest first."""
    filters = [(key, value) for key, value in (("task", task), ("name", name)) if value]
    with _client(url, token) as client:
        schedules = cast("list[Record]", list(client.schedules(filters, limit)))
    if chosen_format(output) is OutputFormat.TABLE:
        schedules = [_in_words(one) for one in schedules]
    print_rows(schedules, _LIST, output)


@commands.command("show", epilog=examples(f"taskyard schedules show {_EXAMPLE_ID}"))
def show_schedule(
    schedule_id: ScheduleId, *, url: Url = DEFAULT_URL, token: Token = None, output: Output = None
) -> None:
    """Show a schedule: when it fires, what it runs, its last run and its error."""
    with _client(url, token) as client:
        schedule = client.schedule(_checked(schedule_id))
    print_record(cast("Record", schedule), output, without=_HIDDEN)


@commands.command(
    "create",
    epilog=examples(
        "taskyard schedules create nightly lint.sql --cron '30 2 * * *' --timezone Europe/Berlin"
        " -p sql='SELECT 1'",
        "taskyard schedules create poll text.fetch --every 30 --overlap skip --json @params.json",
    ),
)
def create_schedule(  # noqa: PLR0913 - each one is an option of the command
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name of its own.", show_default=False)
    ],
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="The task that it runs.", show_default=False)
    ],
    *,
    cron: Annotated[
        str | None,
        typer.Option(
            "--cron", help="Five fields: minute hour day month weekday.", show_default=False
        ),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option("--every", metavar="SECONDS", min=1, help="An interval.", show_default=False),
    ] = None,
    timezone: Annotated[
        str, typer.Option("--timezone", help="Whose clock --cron means, like Europe/Berlin.")
    ] = "UTC",
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
    misfire: Annotated[
        str,
        typer.Option("--misfire", help="Fire times missed: skip, run_once or catch_up."),
    ] = "run_once",
    overlap: Annotated[
        str,
        typer.Option("--overlap", help="An earlier run not ended: allow, skip or cancel_previous."),
    ] = "allow",
    paused: Annotated[bool, typer.Option("--paused", help="Do not set it going yet.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Make a schedule."""
    if (cron is None) == (every is None):
        raise usage_error("Say when: --cron or --every, one of the two.")
    suggestions = {
        "INVALID_PARAMS": f"taskyard tasks show {task}",
        "SCHEDULE_ALREADY_EXISTS": "taskyard schedules list",
    }
    with _client(url, token) as client, suggesting(suggestions):
        params = read_params(
            param or [], json, lambda: client.registered_task(task)["params_schema"]
        )
        wish = {
            "name": name,
            "task": task,
            "params": params,
            "cron": cron,
            "interval_seconds": every,
            "timezone": timezone,
            "misfire": misfire,
            "overlap": overlap,
            "is_active": not paused,
        }
        schedule = client.create(wish)
    print_record(cast("Record", schedule), output, without=_HIDDEN)


@commands.command("pause", epilog=examples(f"taskyard schedules pause {_EXAMPLE_ID}"))
def pause_schedule(
    schedule_id: ScheduleId, *, url: Url = DEFAULT_URL, token: Token = None, output: Output = None
) -> None:
    """Let it fire no more until it is resumed."""
    _set_going(schedule_id, url, token, output, is_active=False)


@commands.command("resume", epilog=examples(f"taskyard schedules resume {_EXAMPLE_ID}"))
def resume_schedule(
    schedule_id: ScheduleId, *, url: Url = DEFAULT_URL, token: Token = None, output: Output = None
) -> None:
    """Let it fire again, from now on."""
    _set_going(schedule_id, url, token, output, is_active=True)


@commands.command("run", epilog=examples(f"taskyard schedules run {_EXAMPLE_ID}"))
def run_schedule(
    schedule_id: ScheduleId, *, url: Url = DEFAULT_URL, token: Token = None, output: Output = None
) -> None:
    """Run it now, besides its own times."""
    with _client(url, token) as client:
        run = client.run_now(_checked(schedule_id))
    print_record(cast("Record", run), output, without=_HIDDEN)


@commands.command("preview", epilog=examples(f"taskyard schedules preview {_EXAMPLE_ID} --count 5"))
def preview_schedule(
    schedule_id: ScheduleId,
    *,
    count: Annotated[int, typer.Option("--count", min=1, max=200, help="So many.")] = 20,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Show its next fire times, on the clock of its zone and in UTC."""
    with _client(url, token) as client:
        moments = client.preview(_checked(schedule_id), count)
    print_rows(cast("list[Record]", moments), ("local_time", "fire_time"), output)


@commands.command("firings", epilog=examples(f"taskyard schedules firings {_EXAMPLE_ID}"))
def list_firings(
    schedule_id: ScheduleId,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="At most so many.")] = 50,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Show what became of its fire times, newest first."""
    with _client(url, token) as client:
        firings = client.firings(_checked(schedule_id), limit)
    print_rows(firings, _FIRINGS, output)


@commands.command("delete", epilog=examples(f"taskyard schedules delete {_EXAMPLE_ID} --yes"))
def delete_schedule(
    schedule_id: ScheduleId,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Remove it and its history; the runs that it made stay."""
    suggestions = {"SCHEDULE_OF_CODE": f"taskyard schedules pause {schedule_id}"}
    with _client(url, token) as client, suggesting(suggestions):
        schedule = client.schedule(_checked(schedule_id))
        if not yes and sys.stdin.isatty():
            typer.confirm(f"Delete the schedule '{schedule['name']}'?", abort=True, err=True)
        client.delete(_checked(schedule_id))
    print_record({"id": schedule["id"], "name": schedule["name"], "deleted": True}, output)


def _set_going(
    schedule_id: str, url: str, token: str | None, output: Output, *, is_active: bool
) -> None:
    with _client(url, token) as client:
        schedule = client.change(_checked(schedule_id), {"is_active": is_active})
    print_record(cast("Record", schedule), output, without=_HIDDEN)


@contextmanager
def _client(url: str, token: str | None) -> "Iterator[ScheduleClient]":
    from app.cli.schedule_client import ScheduleClient

    suggestions = {"SCHEDULE_NOT_FOUND": "taskyard schedules list"}
    with suggesting(suggestions), ScheduleClient(url, token) as client:
        yield client


def _in_words(schedule: Record) -> Record:
    """Return the record for a narrow table: its times in a few words, its error by its code."""
    seconds = schedule.get("interval_seconds")
    when = schedule.get("cron") or (f"every {seconds:g} s" if seconds else "")
    error = schedule.get("error")
    return {**schedule, "when": when, "error": error["type"] if error else None}


def _checked(schedule_id: str) -> str:
    # Anything else would be a step to another resource or a page of errors.
    try:
        return parse_id(schedule_id)
    except ValueError:
        raise CommandError(
            Failure(
                code="SCHEDULE_NOT_FOUND",
                detail=f"'{schedule_id[:80]}' is not the id of a schedule.",
                exit_code=ExitCode.NOT_FOUND,
            )
        ) from None
