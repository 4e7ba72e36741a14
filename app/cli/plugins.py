"""`taskyard plugins`: what is loaded besides the core."""

from collections.abc import Iterator
from typing import Any

import typer

from app.cli.installation import read_settings
from app.cli.options import Output, examples
from app.cli.output import print_rows

_COLUMNS = ("name", "version", "module", "tasks", "description")

commands = typer.Typer(no_args_is_help=True, help="Look at the plugins.")


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(commands, name="plugins")


@commands.callback()
def _group() -> None:
    """Look at the plugins."""


@commands.command("list", epilog=examples("taskyard plugins list", "taskyard plugins list -o json"))
def list_plugins(*, output: Output = None) -> None:
    """List the plugins that the settings name, with the tasks that each one registers."""
    print_rows(list(_rows()), _COLUMNS, output)


def _rows() -> Iterator[dict[str, Any]]:
    from app.tasks.services import load_code

    plugins, registry = load_code(read_settings())
    specs = list(registry.specs())
    for plugin in plugins:
        yield {
            "name": plugin.name,
            "version": plugin.plugin.version,
            "module": plugin.module,
            "description": plugin.plugin.description,
            "tasks": [spec.name for spec in specs if spec.plugin == plugin.name],
        }
