"""`taskyard db`: the migrations of every owner and bind."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.exit_codes import ExitCode
from app.cli.failures import CommandError, Failure, usage_error
from app.cli.installation import Installation, open_installation
from app.cli.options import Output, examples
from app.cli.output import print_record, print_rows

if TYPE_CHECKING:
    from app.db.migration_units import Unit
    from app.db.migrations import Drift, Step

_STEP_COLUMNS = ("owner", "bind", "before", "after", "applied")
_STATUS_COLUMNS = ("owner", "bind", "current", "head", "pending")
_DRIFT_COLUMNS = ("owner", "bind", "pending", "differences")

commands = typer.Typer(
    no_args_is_help=True, help="Migrate the databases, and see where they stand."
)

Owner = Annotated[
    str | None,
    typer.Option("--owner", help="Only of this owner: core, or a plugin.", show_default=False),
]
Bind = Annotated[
    str | None, typer.Option("--bind", help="Only in this database.", show_default=False)
]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(commands, name="db")


@commands.command(
    "upgrade", epilog=examples("taskyard db upgrade", "taskyard db upgrade --owner lint")
)
def upgrade(*, owner: Owner = None, bind: Bind = None, output: Output = None) -> None:
    """Bring the databases to the newest revision."""
    with open_installation() as here:
        from app.db import migrations

        steps = migrations.upgrade(here.databases, here.plugins, owner=owner, bind=bind)
    _print_steps(steps, output)


@commands.command(
    "downgrade",
    epilog=examples(
        "taskyard db downgrade --owner lint --yes",
        "taskyard db downgrade --owner lint --to base --yes",
    ),
)
def downgrade(
    *,
    owner: Owner = None,
    bind: Bind = None,
    to: Annotated[str, typer.Option("--to", help="A revision, -1 for one back, or base.")] = "-1",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = None,
) -> None:
    """Take revisions back; tables and what is in them may be lost."""
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Take {owner or 'every owner'} back to '{to}'?", abort=True, err=True)
    with open_installation() as here:
        from app.db import migrations

        steps = migrations.downgrade(here.databases, here.plugins, owner=owner, bind=bind, to=to)
    _print_steps(steps, output)


@commands.command("status", epilog=examples("taskyard db status", "taskyard db status -o json"))
def status(*, owner: Owner = None, bind: Bind = None, output: Output = None) -> None:
    """Show the revision of each owner and database, and what is pending."""
    with open_installation() as here:
        from app.db import migrations

        rows = migrations.status(here.databases, here.plugins, owner=owner, bind=bind)
    print_rows([asdict(row) for row in rows], _STATUS_COLUMNS, output)


@commands.command("check", epilog=examples("taskyard db check"))
def check(*, owner: Owner = None, bind: Bind = None, output: Output = None) -> None:
    """Compare the tables with the models; exit 1 when they differ."""
    with open_installation() as here:
        from app.db import migrations

        _load_models()
        drifts = migrations.check(here.databases, here.plugins, owner=owner, bind=bind)
    print_rows([asdict(drift) for drift in drifts], _DRIFT_COLUMNS, output)
    _require_clean(drifts)


@commands.command(
    "revision",
    epilog=examples("taskyard db revision --owner lint --bind mysql_lint -m 'Add dialect to jobs'"),
)
def revision(
    *,
    message: Annotated[
        str,
        typer.Option("--message", "-m", help="What it does, in a few words.", show_default=False),
    ],
    owner: Owner = None,
    bind: Bind = None,
    output: Output = None,
) -> None:
    """Write a revision with what the models have and the database has not."""
    with open_installation() as here:
        from app.db import migrations

        _load_models()
        unit = _one_unit(here, owner, bind)
        # Alembic tells on standard output what it writes; that is progress.
        with redirect_stdout(sys.stderr):
            file = migrations.revision(
                here.databases, here.plugins, owner=unit.owner, bind=unit.bind, message=message
            )
    print_record({"owner": unit.owner, "bind": unit.bind, "file": str(file)}, output)


def _load_models() -> None:
    """Import the core's models; the plugins' are imported with their units."""
    import app.auth.models
    import app.tasks.models
    import app.tasks.schedule_models  # noqa: F401 - the tables register themselves


def _one_unit(here: Installation, owner: str | None, bind: str | None) -> "Unit":
    from app.db.migration_units import select, units

    chosen = select(units(here.plugins), owner=owner, bind=bind)
    if len(chosen) > 1:
        names = ", ".join(unit.name for unit in chosen)
        raise usage_error(
            f"A revision belongs to one owner and one database; there are {names}.",
            hint="Name them with --owner and --bind.",
        )
    return chosen[0]


def _print_steps(steps: "Sequence[Step]", output: Output) -> None:
    print_rows([asdict(step) for step in steps], _STEP_COLUMNS, output)


def _require_clean(drifts: "Sequence[Drift]") -> None:
    unclean = [f"{drift.owner}/{drift.bind}" for drift in drifts if not drift.is_clean]
    if unclean:
        pending = any(drift.pending for drift in drifts)
        raise CommandError(
            Failure(
                code="DATABASE_DRIFT",
                detail=f"The database differs from the models of {', '.join(unclean)}.",
                exit_code=ExitCode.FAILED,
                next_command="taskyard db upgrade" if pending else "taskyard db revision --help",
            )
        )
