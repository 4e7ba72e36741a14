"""What cancelling and draining need."""

revision = "0008_control"
down_revision = "0007_sight"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
