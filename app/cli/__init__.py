"""`taskyard`: the command line, one noun a file. A command imports what it needs when it runs."""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.main import get_command

from app import __version__
from app.cli import (
    config,
    db,
    dead_letters,
    demo,
    doctor,
    lint,
    openapi,
    plugins,
    queues,
    runs,
    schedules,
    serve,
    tasks,
    token,
    users,
    workers,
)
from app.cli.failures import report

NAME = "taskyard"
_NOUNS = (
    serve,
    demo,
    lint,
    tasks,
    runs,
    dead_letters,
    queues,
    workers,
    schedules,
    users,
    token,
    db,
    plugins,
    config,
    doctor,
    openapi,
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code."""
    command = get_command(create_cli())
    given = sys.argv[1:] if arguments is None else arguments
    try:
        command(args=given, prog_name=NAME)
    except Exception as error:  # noqa: BLE001 - the last place to tell of it; no traceback for people
        sys.exit(report(error, help_command=_help_command(command, given)))
    sys.exit(0)


def create_cli() -> typer.Typer:
    """Return the command line with every command."""
    cli = typer.Typer(
        name=NAME,
        help="Run typed functions as tasks: over HTTP, on a queue, with a durable history.",
        no_args_is_help=True,
        # Plain help: the examples can be copied, and nothing is loaded to draw it.
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    cli.callback()(_root)
    for noun in _NOUNS:
        noun.register(cli)
    return cli


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Run typed functions as tasks: over HTTP, on a queue, with a durable history."""
    del version  # Its callback has done the work.


def _help_command(command: object, arguments: Sequence[str]) -> str:
    """Return the call that shows the help of the command that the arguments name."""
    words = [NAME]
    for word in arguments:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        words.append(word)
    return " ".join([*words, "--help"])
