"""Notes."""

# ruff: noqa: INP001 - Alembic loads revisions by path, not as a package.
import sqlalchemy as sa
from alembic import op

from app.db.types import IdType, UTCDateTime

revision = "0001_notes"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "notes",
        sa.Column("id", IdType(), primary_key=True),
        sa.Column("text", sa.String(100), nullable=False),
        sa.Column("kind", sa.Enum("short", "long", name="note_kind"), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
    )
    op.create_table(
        "note_comments",
        sa.Column("id", IdType(), primary_key=True),
        sa.Column(
            "note_id", IdType(), sa.ForeignKey("notes.id", ondelete="CASCADE"), nullable=False
        ),
    )
    op.create_index("ix_note_comments_note_id", "note_comments", ["note_id"])


def downgrade() -> None:
    op.drop_table("note_comments")
    op.drop_table("notes")
    sa.Enum(name="note_kind").drop(op.get_bind(), checkfirst=True)
