"""Find the jobs that have not ended without reading all others.

Revision ID: 0003_open_jobs
Revises: 0002_profiles
Create Date: 2026-11-27
"""

from alembic import op

revision = "0003_open_jobs"
down_revision = "0002_profiles"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_linting_jobs_status", "linting_jobs", ["status"])


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_linting_jobs_status", table_name="linting_jobs")
