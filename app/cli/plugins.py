"""`taskyard plugins`: what is loaded besides the core, and the start of a new one."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.installation import read_settings
from app.cli.options import Output, examples
from app.cli.output import print_record, print_rows

_COLUMNS = ("name", "version", "module", "tasks", "description")

commands = typer.Typer(no_args_is_help=True, help="Look at the plugins, and begin a new one.")


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


@commands.command(
    "new",
    epilog=examples("taskyard plugins new demo_plugin", "taskyard plugins new mail --path ~/src"),
)
def new_plugin(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Its name, and that of its package.", show_default=False
        ),
    ],
    *,
    path: Annotated[
        Path, typer.Option("--path", metavar="DIR", help="The folder to make it in.")
    ] = Path(),
    output: Output = None,
) -> None:
    """Write a working plugin: tasks, a table with its migration, a route, and tests that pass."""
    from app.cli.scaffolding import check_name, write_plugin

    check_name(name, _loaded_names())
    folder = write_plugin(name, path.expanduser())
    written = sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())
    place = os.path.relpath(folder)
    record = {"name": name, "folder": place, "files": written, "next": f"make -C {place} test"}
    print_record(record, output, without=("files",))


def _loaded_names() -> frozenset[str]:
    from app.common.errors import ConfigurationError
    from app.config.plugins import load_plugins

    try:
        return frozenset(one.name for one in load_plugins(read_settings().plugins))
    except ConfigurationError:
        # Wrong settings are no reason against writing a folder.
        return frozenset()


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
