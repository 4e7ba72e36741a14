"""The index of notes."""

# ruff: noqa: INP001 - Alembic loads revisions by path, not as a package.
import sqlalchemy as sa
from alembic import op

from app.db.types import IdType

revision = "0001_note_index"
down_revision = None


def upgrade() -> None:
    op.create_table("note_index", sa.Column("id", IdType(), primary_key=True))


def downgrade() -> None:
    op.drop_table("note_index")
