"""Options that several commands share, and the examples in their help."""

from typing import Annotated

import typer

from app.cli.output import OutputFormat

DEFAULT_URL = "http://127.0.0.1:8000"

Output = Annotated[
    OutputFormat | None,
    typer.Option(
        "--output",
        "-o",
        help="Form of the output: a table on a terminal, else JSON.",
        show_default=False,
    ),
]
Url = Annotated[
    str, typer.Option("--url", envvar="TASKYARD_URL", help="Address of the service.", metavar="URL")
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="TASKYARD_TOKEN",
        help="Access token; the variable keeps it out of the list of processes.",
        metavar="TOKEN",
        show_default=False,
    ),
]


def examples(*commands: str) -> str:
    """Return the end of a command's help: how it is called."""
    title = "Example:" if len(commands) == 1 else "Examples:"
    # A paragraph that begins with \b is printed as it stands.
    return "\n".join(["\b", title, *(f"  {command}" for command in commands)])
