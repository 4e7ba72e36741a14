"""Schedules and their firings."""

revision = "0006_schedules"
down_revision = "0005_limits"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
