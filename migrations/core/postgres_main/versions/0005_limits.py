"""Limits across all workers, and queues that are paused."""

revision = "0005_limits"
down_revision = "0004_batches"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
