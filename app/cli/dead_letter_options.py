"""Options that the commands for dead letters share."""

from typing import Annotated

import typer

LetterId = Annotated[
    str, typer.Argument(metavar="ID", help="The dead letter's id.", show_default=False)
]
OneOrFilter = Annotated[
    str | None,
    typer.Argument(
        metavar="ID",
        help="One dead letter; else those that the filters name.",
        show_default=False,
    ),
]
Task = Annotated[
    str | None, typer.Option("--task", help="Only letters of this task.", show_default=False)
]
Queue = Annotated[
    str | None, typer.Option("--queue", help="Only letters of this queue.", show_default=False)
]
ErrorType = Annotated[
    str | None, typer.Option("--error-type", help="Only this error.", show_default=False)
]
Origin = Annotated[
    str | None,
    typer.Option(
        "--origin",
        help="run: a run failed; broker: a message was given up.",
        show_default=False,
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="Not older, like 2026-01-31T12:00:00Z.", show_default=False
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]
All = Annotated[bool, typer.Option("--all", help="Without a filter: every open letter.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what the filters name.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
