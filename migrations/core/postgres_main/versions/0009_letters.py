"""A digest of a dead letter that no run owns, so that the archive keeps it once."""

import sqlalchemy as sa
from alembic import op

revision = "0009_letters"
down_revision = "0008_control"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dead_letters", sa.Column("digest", sa.String(length=64)))
    op.add_column(
        "dead_letters", sa.Column("twin", sa.Integer(), server_default="0", nullable=False)
    )
    op.create_index("uk_dead_letters_digest", "dead_letters", ["digest", "twin"], unique=True)


def downgrade() -> None:
    op.drop_index("uk_dead_letters_digest", table_name="dead_letters")
    with op.batch_alter_table("dead_letters") as table:
        table.drop_column("twin")
        table.drop_column("digest")
