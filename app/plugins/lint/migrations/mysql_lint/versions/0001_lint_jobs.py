"""Create the tables of lint jobs and their files.

Revision ID: 0001_lint_jobs
Revises:
Create Date: 2026-11-22
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from app.db.types import JsonType, UTCDateTime

revision = "0001_lint_jobs"
down_revision = None
branch_labels = None
depends_on = None

_TABLE: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}


def upgrade() -> None:
    """Create both tables."""
    now, now_on_update = _clock_defaults()
    op.create_table(
        "linting_jobs",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(255), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                *("ACCEPTED", "PROCESSING", "COMPLETED", "PARTIALLY_COMPLETED", "FAILED"),
                name="linting_job_status",
            ),
            nullable=False,
        ),
        sa.Column(
            "submission_type",
            sa.Enum("SINGLE_FILE", "ZIP_ARCHIVE", name="linting_submission_type"),
            nullable=False,
        ),
        sa.Column("source_path", sa.String(1024), nullable=False),
        sa.Column("error_message", sa.Text, nullable=True),
        sa.Column("created_at", UTCDateTime, nullable=False, server_default=now),
        sa.Column("updated_at", UTCDateTime, nullable=False, server_default=now_on_update),
        sa.Column("file_name", sa.String(255), nullable=True),
        sa.Column("dialect", sa.String(32), nullable=True),
        sa.Column("rules", JsonType, nullable=True),
        sa.Column("exclude_rules", JsonType, nullable=True),
        sa.Column("options", JsonType, nullable=True),
        sa.Column("run_id", sa.String(36), nullable=True),
        sa.Column("created_by", sa.String(255), nullable=True),
        sa.Column("tenant", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_linting_jobs"),
        sa.UniqueConstraint("job_id", name="uq_linting_jobs_job_id"),
        **_TABLE,
    )
    op.create_index("ix_linting_jobs_created_by", "linting_jobs", ["created_by", "id"])
    op.create_table(
        "linting_tasks",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("task_id", sa.String(255), nullable=False),
        sa.Column("job_id", sa.String(255), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                *("PENDING", "IN_PROGRESS", "SUCCESS", "FAILURE"),
                name="linting_task_status",
            ),
            nullable=False,
        ),
        sa.Column("source_file_path", sa.String(1024), nullable=False),
        sa.Column("result_file_path", sa.String(1024), nullable=True),
        sa.Column("error_message", sa.Text, nullable=True),
        sa.Column("created_at", UTCDateTime, nullable=False, server_default=now),
        sa.Column("updated_at", UTCDateTime, nullable=False, server_default=now_on_update),
        sa.Column("file_name", sa.String(1024), nullable=True),
        sa.Column("outcome", sa.String(32), nullable=True),
        sa.Column("size_bytes", sa.Integer, nullable=True),
        sa.Column("violation_count", sa.Integer, nullable=True),
        sa.Column("duration_ms", sa.Integer, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_linting_tasks"),
        sa.UniqueConstraint("task_id", name="uq_linting_tasks_task_id"),
        **_TABLE,
    )
    # The status stands beside the job, so that "is a file unfinished?" reads the index alone.
    op.create_index("ix_linting_tasks_job_id", "linting_tasks", ["job_id", "status"])


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("linting_tasks")
    op.drop_table("linting_jobs")


def _clock_defaults() -> tuple[sa.TextClause, sa.TextClause]:
    if op.get_bind().dialect.name == "sqlite":
        # SQLite has no ON UPDATE; the models set the time themselves on every database.
        now = sa.text("(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')")
        return now, now
    return (
        sa.text("CURRENT_TIMESTAMP(6)"),
        sa.text("CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)"),
    )
