"""`taskyard workers`: who is there, draining and resuming them, through the API."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.failures import suggesting
from app.cli.options import DEFAULT_URL, Output, Token, Url, examples
from app.cli.output import print_record, print_rows

if TYPE_CHECKING:
    from app.cli.worker_client import WorkerClient

_COLUMNS = ("name", "alive", "draining", "active", "concurrency", "queues", "seen_at")

commands = typer.Typer(no_args_is_help=True, help="Look at workers, drain and resume them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The worker.", show_default=False)]
Reason = Annotated[
    str | None, typer.Option("--reason", help="Why, for the audit log.", show_default=False)
]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(commands, name="workers")


@commands.command("list", epilog=examples("taskyard workers list"))
def list_workers(*, url: Url = DEFAULT_URL, token: Token = None, output: Output = None) -> None:
    """Show each worker, what it is at, and whether it is drained."""
    with _client(url, token) as client:
        workers = client.workers()
    print_rows(workers, _COLUMNS, output)


@commands.command(
    "drain", epilog=examples("taskyard workers drain worker-7@node3 --reason 'a new disk'")
)
def drain_worker(
    name: Name,
    *,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Let a worker take no more work and end what it is at, until it is resumed or restarted."""
    _change(name, "drain", reason, url, token, output)


@commands.command("resume", epilog=examples("taskyard workers resume worker-7@node3"))
def resume_worker(
    name: Name,
    *,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Let a worker take work again."""
    _change(name, "resume", reason, url, token, output)


def _change(
    name: str, verb: str, reason: str | None, url: str, token: str | None, output: Output
) -> None:
    suggestions = {"WORKER_NOT_FOUND": "taskyard workers list"}
    with suggesting(suggestions), _client(url, token) as client:
        worker: dict[str, Any] = client.change(name, verb, reason)
    print_record(worker, output)


def _client(url: str, token: str | None) -> "WorkerClient":
    from app.cli.worker_client import WorkerClient

    return WorkerClient(url, token)
