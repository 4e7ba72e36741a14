"""Whether the databases have the tables that this code expects."""

import asyncio
import time
from collections.abc import Sequence

from app.common.errors import ServiceUnavailable
from app.config.plugins import LoadedPlugin
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.migrations import MigrationError, Status, status

_KEPT_SECONDS = 30.0


class MigrationCheck:
    """Asks the databases for their revisions, and seldom once all is well."""

    def __init__(self, databases: Databases, plugins: Sequence[LoadedPlugin]) -> None:
        self._databases = databases
        self._plugins = plugins
        self._well_until = 0.0

    async def __call__(self) -> None:
        """Return when nothing is pending; raise ServiceUnavailable when something is."""
        if time.monotonic() < self._well_until:
            return
        behind = await asyncio.to_thread(self._behind)
        if behind:
            raise ServiceUnavailable(f"Migrations are pending: {', '.join(behind)}.")
        self._well_until = time.monotonic() + _KEPT_SECONDS

    def _behind(self) -> list[str]:
        found = [one for bind in self._databases.binds for one in self._status(bind)]
        return [f"{one.owner}/{one.bind}" for one in found if one.pending]

    def _status(self, bind: str) -> Sequence[Status]:
        try:
            return status(self._databases, self._plugins, bind=bind)
        except MigrationError:
            # Newer code has migrated this database; migrations keep what older code needs.
            return ()
        except ServiceUnavailable:
            if bind == APPLICATION_BIND:
                raise
            # This database is away, which its own check tells.
            return ()
