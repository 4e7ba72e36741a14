"""Batches of runs, what makes a run unique, the version of its task, and answers kept by key."""

import sqlalchemy as sa
from alembic import op

from app.db.types import IdType, JsonType, UTCDateTime, db_now

revision = "0004_batches"
down_revision = "0003_dead_letters"
branch_labels = None
depends_on = None

_UNIQUE = "uk_task_runs_unique_key"
_WHILE_LIVE = "unique_key IS NOT NULL AND finished_at IS NULL"
# A run that failed, was cancelled or expired stands in nobody's way.
_WHILE_HELD = "unique_key IS NOT NULL AND status NOT IN ('FAILED', 'CANCELLED', 'EXPIRED')"


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", IdType(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("deduplicated", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("tenant", sa.String(length=64)),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
    )
    op.create_index("idx_batches_created_at", "batches", ["created_at"])
    op.add_column("task_runs", sa.Column("task_version", sa.String(length=64)))
    op.add_column("idempotency_keys", sa.Column("answer", JsonType()))
    _make_unique(_WHILE_HELD)


def downgrade() -> None:
    # The older rule knows live runs only; what ended would be in its way as little as before.
    _make_unique(_WHILE_LIVE)
    op.drop_column("idempotency_keys", "answer")
    op.drop_column("task_runs", "task_version")
    op.drop_index("idx_batches_created_at", table_name="batches")
    op.drop_table("batches")


def _make_unique(condition: str) -> None:
    where = sa.text(condition)
    op.drop_index(_UNIQUE, table_name="task_runs")
    op.create_index(
        _UNIQUE,
        "task_runs",
        ["unique_key"],
        unique=True,
        postgresql_where=where,
        sqlite_where=where,
    )
