"""Longer texts, extras and an index; on SQLite the table is made anew."""

# ruff: noqa: INP001 - Alembic loads revisions by path, not as a package.
import sqlalchemy as sa
from alembic import op

from app.db.types import JsonType

revision = "0002_longer"
down_revision = "0001_notes"


def upgrade() -> None:
    with op.batch_alter_table("notes") as batch:
        batch.alter_column(
            "text", existing_type=sa.String(100), type_=sa.String(200), existing_nullable=False
        )
        batch.add_column(sa.Column("extra", JsonType()))
        batch.create_index("ix_notes_at", ["at"])


def downgrade() -> None:
    with op.batch_alter_table("notes") as batch:
        batch.drop_index("ix_notes_at")
        batch.drop_column("extra")
        batch.alter_column(
            "text", existing_type=sa.String(200), type_=sa.String(100), existing_nullable=False
        )
