"""The workers that are there, and those that somebody drains."""

import sqlalchemy as sa
from alembic import op

from app.db.types import JsonType, UTCDateTime, db_now

revision = "0008_control"
down_revision = "0007_sight"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("queues", JsonType(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("started_at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.Column("seen_at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.Column("drained_at", UTCDateTime()),
        sa.Column("drained_by", sa.String(length=255)),
        sa.Column("drain_reason", sa.Text()),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )


def downgrade() -> None:
    op.drop_table("workers")
