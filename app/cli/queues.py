"""`taskyard queues`: how full the queues are, pausing and resuming them, through the API."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.failures import suggesting
from app.cli.options import DEFAULT_URL, Output, Token, Url, examples
from app.cli.output import print_record, print_rows

if TYPE_CHECKING:
    from app.cli.queue_client import QueueClient

_COLUMNS = (
    "name",
    "paused",
    "consumers",
    "ready",
    "unacknowledged",
    "delayed",
    "dead",
    "oldest_age_seconds",
)

commands = typer.Typer(no_args_is_help=True, help="Look at queues, pause and resume them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue.", show_default=False)]
Reason = Annotated[
    str | None, typer.Option("--reason", help="Why, for the audit log.", show_default=False)
]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(commands, name="queues")


@commands.command("list", epilog=examples("taskyard queues list"))
def list_queues(*, url: Url = DEFAULT_URL, token: Token = None, output: Output = None) -> None:
    """Show how full each queue is, who consumes from it, and whether it is paused."""
    with _client(url, token) as client:
        queues = client.queues()
    print_rows(queues, _COLUMNS, output)


@commands.command(
    "pause", epilog=examples("taskyard queues pause reports --reason 'the printer is away'")
)
def pause_queue(
    name: Name,
    *,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Let no worker take work from a queue; what runs ends, what waits keeps its order."""
    _change(name, "pause", reason, url, token, output)


@commands.command("resume", epilog=examples("taskyard queues resume reports"))
def resume_queue(
    name: Name,
    *,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Let the workers take work from a queue again."""
    _change(name, "resume", reason, url, token, output)


def _change(
    name: str, verb: str, reason: str | None, url: str, token: str | None, output: Output
) -> None:
    suggestions = {"QUEUE_NOT_FOUND": "taskyard queues list"}
    with suggesting(suggestions), _client(url, token) as client:
        queue: dict[str, Any] = client.change(name, verb, reason)
    print_record(queue, output)


def _client(url: str, token: str | None) -> "QueueClient":
    from app.cli.queue_client import QueueClient

    return QueueClient(url, token)
