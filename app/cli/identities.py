"""Users and tokens, made by who administers the host: this needs the database and no token."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from app.cli.exit_codes import ExitCode
from app.cli.failures import CommandError, Failure
from app.cli.installation import Installation, open_installation

if TYPE_CHECKING:
    from app.auth.identity import Identity
    from app.config import Settings

Made = TypeVar("Made")


def with_identity(work: "Callable[[Identity, Settings], Awaitable[Made]]") -> Made:
    """Return what the work on the identities returns; a database without tables is an error."""
    with open_installation() as here:
        _require_tables(here)
        return asyncio.run(_run(here, work))


async def _run(here: Installation, work: "Callable[[Identity, Settings], Awaitable[Made]]") -> Made:
    from app.auth.identity import open_identity, open_tokens

    identity = open_identity(here.settings, here.databases, open_tokens(here.settings))
    try:
        return await work(identity, here.settings)
    finally:
        identity.close()
        await here.databases.dispose()


def _require_tables(here: Installation) -> None:
    from app.config.settings import APPLICATION_BIND
    from app.db import migrations

    units = migrations.status(here.databases, (), owner="core", bind=APPLICATION_BIND)
    if any(unit.pending for unit in units):
        raise CommandError(
            Failure(
                code="DATABASE_NOT_MIGRATED",
                detail=f"The database '{APPLICATION_BIND}' is not at the newest revision.",
                exit_code=ExitCode.UNAVAILABLE,
                next_command="taskyard db upgrade",
            )
        )
