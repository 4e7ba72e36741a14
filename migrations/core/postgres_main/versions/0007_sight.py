"""What lists, streams and retention need."""

revision = "0007_sight"
down_revision = "0006_schedules"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
