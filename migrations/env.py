"""The one environment of all migrations; `app.db.migrations` says which unit runs and on what."""

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo

from app.db.migration_options import context_options

_attributes = context.config.attributes


def _note(
    ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]
) -> None:
    del ctx, heads, run_args
    _attributes["applied"].append(step.up_revision_id)


context.configure(
    connection=_attributes["connection"],
    on_version_apply=_note,
    **context_options(_attributes["unit"], _attributes["connection"]),
)
with context.begin_transaction():
    context.run_migrations()
