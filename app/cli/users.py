"""`taskyard users`: people who sign in with a password."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.failures import usage_error
from app.cli.identities import with_identity
from app.cli.options import Output, examples
from app.cli.output import print_record

if TYPE_CHECKING:
    from app.auth.accounts import Account
    from app.auth.identity import Identity
    from app.config import Settings

# The roles of app.auth, whose import would cost a second.
Role = Literal["viewer", "operator", "admin"]

commands = typer.Typer(no_args_is_help=True, help="Make users, as the administrator of the host.")


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(commands, name="users")


@commands.callback()
def _group() -> None:
    """Make users, as the administrator of the host."""


@commands.command(
    "create",
    epilog=examples(
        "taskyard users create ada --role operator",
        "taskyard users create ada --role admin --password-stdin < password.txt",
    ),
)
def create_user(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The user's name.", show_default=False)
    ],
    *,
    role: Annotated[Role, typer.Option("--role", help="What the user may do.")] = "viewer",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    output: Output = None,
) -> None:
    """Make a user; the password is asked for on a terminal."""
    password = _password(from_stdin=password_stdin)

    async def make(identity: "Identity", _settings: "Settings") -> "Account":
        return await identity.create_user(name, password, role)

    account = with_identity(make)
    print_record({"id": account.id, "name": account.name, "role": account.role}, output)


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        # One line break at the end belongs to the file, not to the password.
        return sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not sys.stdin.isatty():
        raise usage_error(
            "There is no terminal to ask for the password on.",
            hint="Give it on standard input, with --password-stdin.",
        )
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password
