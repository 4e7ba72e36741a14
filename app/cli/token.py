"""`taskyard token`: an access token for who administers the host."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.failures import suggesting
from app.cli.identities import with_identity
from app.cli.options import examples

if TYPE_CHECKING:
    from app.auth.identity import Identity
    from app.config import Settings


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command(
        "token",
        epilog=examples(
            'export TASKYARD_TOKEN="$(taskyard token)"',
            "taskyard token --username ada --scope tasks:read --expires-in 3600",
        ),
    )(print_token)


def print_token(
    *,
    username: Annotated[
        str | None,
        typer.Option(
            "--username", help="Whose; the first administrator's when absent.", show_default=False
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            help="Only this scope, of those that the user has. Repeatable.",
            show_default=False,
        ),
    ] = None,
    expires_in: Annotated[
        int | None,
        typer.Option(
            "--expires-in",
            metavar="SECONDS",
            min=1,
            help="How long it is valid.",
            show_default="auth.access_token_seconds",
        ),
    ] = None,
) -> None:
    """Print an access token, and nothing else."""

    async def issue(identity: "Identity", settings: "Settings") -> str:
        from app.auth.identity import first_admin_name

        name = username if username is not None else first_admin_name(settings)
        return await identity.issue_for(name, scope or (), expires_in)

    with suggesting({"NOT_FOUND": f"taskyard users create {username or 'admin'} --role admin"}):
        print(with_identity(issue))
