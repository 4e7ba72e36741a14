"""Store profiles, and of jobs and files what was judged and compared.

Revision ID: 0002_profiles
Revises: 0001_lint_jobs
Create Date: 2026-11-23
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from app.db.types import JsonType, UTCDateTime

revision = "0002_profiles"
down_revision = "0001_lint_jobs"
branch_labels = None
depends_on = None

_TABLE: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}
_OF_JOBS: tuple[tuple[str, Any], ...] = (
    ("passed", sa.Boolean),
    ("profile_name", sa.String(64)),
    ("baseline_job_id", sa.String(255)),
)
_OF_FILES: tuple[tuple[str, Any], ...] = (
    ("passed", sa.Boolean),
    ("error_count", sa.Integer),
    ("warning_count", sa.Integer),
    ("note_count", sa.Integer),
    ("baseline_task_id", sa.String(255)),
    ("new_count", sa.Integer),
    ("fixed_count", sa.Integer),
)


def upgrade() -> None:
    """Create the table of profiles; every new column of the others may be empty."""
    now, now_on_update = _clock_defaults()
    op.create_table(
        "lint_profiles",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("description", sa.String(1024), nullable=True),
        sa.Column("wish", JsonType, nullable=False),
        sa.Column("created_by", sa.String(255), nullable=True),
        sa.Column("created_at", UTCDateTime, nullable=False, server_default=now),
        sa.Column("updated_at", UTCDateTime, nullable=False, server_default=now_on_update),
        sa.PrimaryKeyConstraint("id", name="pk_lint_profiles"),
        sa.UniqueConstraint("tenant", "name", name="uq_lint_profiles_tenant_name"),
        **_TABLE,
    )
    for table, columns in (("linting_jobs", _OF_JOBS), ("linting_tasks", _OF_FILES)):
        for name, kind in columns:
            op.add_column(table, sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    """Drop the columns and the table."""
    for table, columns in (("linting_tasks", _OF_FILES), ("linting_jobs", _OF_JOBS)):
        for name, _ in reversed(columns):
            op.drop_column(table, name)
    op.drop_table("lint_profiles")


def _clock_defaults() -> tuple[sa.TextClause, sa.TextClause]:
    if op.get_bind().dialect.name == "sqlite":
        # SQLite has no ON UPDATE; the models set the time themselves on every database.
        now = sa.text("(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')")
        return now, now
    return (
        sa.text("CURRENT_TIMESTAMP(6)"),
        sa.text("CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)"),
    )
