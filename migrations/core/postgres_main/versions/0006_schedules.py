"""Schedules, what became of each fire time, and which schedule made a run."""

import sqlalchemy as sa
from alembic import op

from app.db.types import IdType, JsonType, UTCDateTime, db_now

revision = "0006_schedules"
down_revision = "0005_limits"
branch_labels = None
depends_on = None


def _where(condition: str) -> dict[str, sa.TextClause]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", IdType(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("task", sa.String(length=200), nullable=False),
        sa.Column("params", JsonType(), nullable=False),
        sa.Column("cron", sa.String(length=200)),
        sa.Column("interval_seconds", sa.Double()),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("misfire", sa.String(length=16), nullable=False),
        sa.Column("overlap", sa.String(length=16), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("anchor_at", UTCDateTime(), nullable=False),
        sa.Column("next_fire_at", UTCDateTime()),
        sa.Column("last_fire_at", UTCDateTime()),
        sa.Column("last_run_id", IdType()),
        sa.Column("error", JsonType()),
        sa.Column("tenant", sa.String(length=64)),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schedules"),
    )
    op.create_index("uk_schedules_tenant_name", "schedules", ["tenant", "name"], unique=True)
    op.create_index(
        "uk_schedules_name", "schedules", ["name"], unique=True, **_where("tenant IS NULL")
    )
    op.create_index(
        "idx_schedules_next_fire_at",
        "schedules",
        ["next_fire_at"],
        **_where("next_fire_at IS NOT NULL"),
    )
    op.create_table(
        "schedule_firings",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("schedule_id", IdType(), nullable=False),
        sa.Column("fire_time", UTCDateTime(), nullable=False),
        sa.Column("trigger", sa.String(length=8), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("missed_since", UTCDateTime()),
        sa.Column("run_id", IdType()),
        sa.Column("fired_at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["schedule_id"],
            ["schedules.id"],
            name="fk_schedule_firings_schedule_id_schedules",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_schedule_firings"),
    )
    op.create_index(
        "uk_schedule_firings_fire_time",
        "schedule_firings",
        ["schedule_id", "trigger", "fire_time"],
        unique=True,
    )
    op.create_index("idx_schedule_firings_schedule_id", "schedule_firings", ["schedule_id", "id"])
    op.create_index("idx_schedule_firings_fired_at", "schedule_firings", ["fired_at"])
    op.add_column("task_runs", sa.Column("schedule_id", IdType()))
    op.create_index(
        "idx_task_runs_schedule_id",
        "task_runs",
        ["schedule_id", "id"],
        **_where("schedule_id IS NOT NULL"),
    )
    op.create_index(
        "idx_task_runs_schedule_live",
        "task_runs",
        ["schedule_id"],
        **_where("schedule_id IS NOT NULL AND finished_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("idx_task_runs_schedule_live", "task_runs")
    op.drop_index("idx_task_runs_schedule_id", "task_runs")
    op.drop_column("task_runs", "schedule_id")
    op.drop_table("schedule_firings")
    op.drop_table("schedules")
