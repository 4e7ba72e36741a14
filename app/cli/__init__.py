"""`taskyard`: the command line, one noun a file. A command imports what it needs when it runs."""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.main import get_command

from app import __version__
from app.cli import config, db, plugins, runs, tasks, token, users
from app.cli.failures import report

_NOUNS = (tasks, runs, users, token, db, plugins, config)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code."""
    try:
        get_command(create_cli())(args=arguments, prog_name="taskyard")
    except Exception as error:  # noqa: BLE001 - the last place to tell of it; no traceback for people
        sys.exit(report(error))
    sys.exit(0)


def create_cli() -> typer.Typer:
    """Return the command line with every command."""
    cli = typer.Typer(
        name="taskyard",
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


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True)
    ] = False,
) -> None:
    """Run typed functions as tasks: over HTTP, on a queue, with a durable history."""
    if version:
        print(__version__)
        raise typer.Exit
