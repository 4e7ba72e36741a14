"""`taskyard config`: the settings in force."""

import typer

from app.cli.options import Output, examples
from app.cli.output import print_rows

commands = typer.Typer(no_args_is_help=True, help="Look at the settings.")


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(commands, name="config")


@commands.callback()
def _group() -> None:
    """Look at the settings."""


@commands.command("show", epilog=examples("taskyard config show", "taskyard config show -o jsonl"))
def show(*, output: Output = None) -> None:
    """Show every setting with the place it comes from; secrets are masked."""
    from app.config.loading import effective_settings

    rows = [row._asdict() for row in effective_settings()]
    print_rows(rows, ("key", "value", "origin"), output)
