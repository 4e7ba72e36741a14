"""Runs with their events and logs, dead letters, derived tasks, idempotency keys, leases."""

import sqlalchemy as sa
from alembic import op

from app.db.types import IdType, JsonType, UTCDateTime, db_now

revision = "0002_runs"
down_revision = "0001_identities"
branch_labels = None
depends_on = None


def _where(condition: str) -> dict[str, sa.TextClause]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("id", IdType(), nullable=False),
        sa.Column("run_id", IdType()),
        sa.Column("task", sa.String(length=200)),
        sa.Column("queue", sa.String(length=64), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("error_type", sa.String(length=200), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("message", JsonType()),
        sa.Column("created_at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dead_letters"),
        sa.UniqueConstraint("run_id", name="uq_dead_letters_run_id"),
    )
    op.create_index(
        "idx_dead_letters_group", "dead_letters", ["task", "error_type", "origin", "id"]
    )
    op.create_table(
        "derived_tasks",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("base_task", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("params", JsonType(), nullable=False),
        sa.Column("options", JsonType(), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_derived_tasks"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("caller", sa.String(length=255), nullable=False),
        sa.Column("endpoint", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "endpoint", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "task_runs",
        sa.Column("id", IdType(), nullable=False),
        sa.Column("task", sa.String(length=200), nullable=False),
        sa.Column("function", sa.String(length=200), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("params", JsonType(), nullable=False),
        sa.Column("options", JsonType(), nullable=False),
        sa.Column("labels", JsonType(jsonb=True), nullable=False),
        sa.Column("result", JsonType()),
        sa.Column("result_ref", sa.String(length=1024)),
        sa.Column("error", JsonType()),
        sa.Column("progress", JsonType()),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.String(length=255)),
        sa.Column("lease_expires_at", UTCDateTime()),
        sa.Column("queue", sa.String(length=64), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("scheduled_for", UTCDateTime()),
        sa.Column("published_at", UTCDateTime()),
        sa.Column("expires_at", UTCDateTime()),
        sa.Column("cancel_requested_at", UTCDateTime()),
        sa.Column("idempotency_key", sa.String(length=255)),
        sa.Column("unique_key", sa.String(length=255)),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("tenant", sa.String(length=64)),
        sa.Column("parent_id", IdType()),
        sa.Column("batch_id", IdType()),
        sa.Column("replay_of", IdType()),
        sa.Column("dead_letter_id", IdType()),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.Column("started_at", UTCDateTime()),
        sa.Column("finished_at", UTCDateTime()),
        sa.Column("updated_at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_task_runs"),
    )
    op.create_index(
        "idx_task_runs_batch_id", "task_runs", ["batch_id", "id"], **_where("batch_id IS NOT NULL")
    )
    op.create_index("idx_task_runs_created_at", "task_runs", ["created_at"])
    op.create_index(
        "idx_task_runs_expiring",
        "task_runs",
        ["expires_at"],
        **_where("expires_at IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index(
        "idx_task_runs_finished", "task_runs", ["finished_at"], **_where("finished_at IS NOT NULL")
    )
    op.create_index("idx_task_runs_labels", "task_runs", ["labels"], postgresql_using="gin")
    op.create_index(
        "idx_task_runs_lease", "task_runs", ["lease_expires_at"], **_where("status = 'RUNNING'")
    )
    op.create_index(
        "idx_task_runs_parent_id",
        "task_runs",
        ["parent_id", "id"],
        **_where("parent_id IS NOT NULL"),
    )
    op.create_index("idx_task_runs_queue", "task_runs", ["queue", "id"])
    op.create_index("idx_task_runs_status", "task_runs", ["status", "id"])
    op.create_index("idx_task_runs_task", "task_runs", ["task", "id"])
    op.create_index("idx_task_runs_trace_id", "task_runs", ["trace_id"])
    op.create_index(
        "idx_task_runs_unpublished",
        "task_runs",
        ["updated_at"],
        **_where("published_at IS NULL AND finished_at IS NULL"),
    )
    op.create_index(
        "idx_task_runs_waiting",
        "task_runs",
        ["published_at"],
        **_where("status IN ('PENDING', 'SCHEDULED', 'RETRYING')"),
    )
    op.create_index(
        "uk_task_runs_unique_key",
        "task_runs",
        ["unique_key"],
        unique=True,
        **_where("unique_key IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_table(
        "task_run_events",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.Column("from_status", sa.String(length=16)),
        sa.Column("to_status", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("worker", sa.String(length=255)),
        sa.Column("detail", JsonType()),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["task_runs.id"],
            name="fk_task_run_events_run_id_task_runs",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_task_run_events"),
    )
    op.create_index("idx_task_run_events_run_id", "task_run_events", ["run_id", "id"])
    op.create_table(
        "task_run_logs",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("fields", JsonType()),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["task_runs.id"],
            name="fk_task_run_logs_run_id_task_runs",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_task_run_logs"),
    )
    op.create_index("idx_task_run_logs_run_id", "task_run_logs", ["run_id", "id"])


def downgrade() -> None:
    for table in (
        "task_run_logs",
        "task_run_events",
        "task_runs",
        "leases",
        "idempotency_keys",
        "derived_tasks",
        "dead_letters",
    ):
        op.drop_table(table)
