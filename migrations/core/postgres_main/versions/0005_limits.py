"""Limits across all workers, and queues that are paused."""

import sqlalchemy as sa
from alembic import op

from app.db.types import UTCDateTime, db_now

revision = "0005_limits"
down_revision = "0004_batches"
branch_labels = None
depends_on = None

_INDEXES = (
    (
        "idx_task_runs_limit_key",
        ["limit_key", "status"],
        "limit_key IS NOT NULL AND finished_at IS NULL",
    ),
    ("idx_task_runs_held", ["limit_key", "id"], "held_until IS NOT NULL AND finished_at IS NULL"),
)


def upgrade() -> None:
    op.add_column("task_runs", sa.Column("limit_key", sa.String(length=300)))
    op.add_column("task_runs", sa.Column("held_until", UTCDateTime()))
    for name, columns, condition in _INDEXES:
        where = sa.text(condition)
        op.create_index(name, "task_runs", columns, postgresql_where=where, sqlite_where=where)
    op.create_table(
        "rate_buckets",
        sa.Column("limit_key", sa.String(length=300), nullable=False),
        sa.Column("next_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("limit_key", name="pk_rate_buckets"),
    )
    op.create_table(
        "queue_pauses",
        sa.Column("queue", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("paused_by", sa.String(length=255), nullable=False),
        sa.Column("paused_at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.PrimaryKeyConstraint("queue", name="pk_queue_pauses"),
    )


def downgrade() -> None:
    op.drop_table("queue_pauses")
    op.drop_table("rate_buckets")
    for name, _, _ in reversed(_INDEXES):
        op.drop_index(name, "task_runs")
    op.drop_column("task_runs", "held_until")
    op.drop_column("task_runs", "limit_key")
