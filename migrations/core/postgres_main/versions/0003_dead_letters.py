"""What became of a dead letter, the lineage of replays, and the audit log."""

import sqlalchemy as sa
from alembic import op

from app.db.types import IdType, JsonType, UTCDateTime, db_now

revision = "0003_dead_letters"
down_revision = "0002_runs"
branch_labels = None
depends_on = None

_LETTER_COLUMNS = (
    ("tenant", sa.String(length=64)),
    ("replayed_at", UTCDateTime()),
    ("replayed_by", sa.String(length=255)),
    ("replay_run_id", IdType()),
    ("discarded_at", UTCDateTime()),
    ("discarded_by", sa.String(length=255)),
    ("discard_reason", sa.Text()),
)
_TENANT_OF_THE_RUN = """
    UPDATE dead_letters
    SET tenant = (SELECT task_runs.tenant FROM task_runs WHERE task_runs.id = dead_letters.run_id)
    WHERE run_id IS NOT NULL
"""
# The table's owner can do anything; the triggers stop every mistake and every other role.
_GUARDS = {
    "postgresql": (
        """
        CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'audit_log is append-only';
        END $$
        """,
        """
        CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only()
        """,
    ),
    "sqlite": tuple(
        f"""
        CREATE TRIGGER audit_log_no_{action.lower()} BEFORE {action} ON audit_log
        BEGIN
            SELECT RAISE(ABORT, 'audit_log is append-only');
        END
        """
        for action in ("UPDATE", "DELETE")
    ),
}


def _where(condition: str) -> dict[str, sa.TextClause]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    for name, kind in _LETTER_COLUMNS:
        op.add_column("dead_letters", sa.Column(name, kind))
    op.execute(_TENANT_OF_THE_RUN)
    op.create_index(
        "idx_dead_letters_open",
        "dead_letters",
        ["id"],
        **_where("replayed_at IS NULL AND discarded_at IS NULL"),
    )
    op.create_index("idx_dead_letters_created_at", "dead_letters", ["created_at"])
    op.create_index(
        "idx_task_runs_replay_of",
        "task_runs",
        ["replay_of", "id"],
        **_where("replay_of IS NOT NULL"),
    )
    op.create_table(
        "audit_log",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("at", UTCDateTime(), server_default=db_now(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("tenant", sa.String(length=64)),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("object_type", sa.String(length=64), nullable=False),
        sa.Column("object_id", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("detail", JsonType()),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
    )
    op.create_index("idx_audit_log_object", "audit_log", ["object_type", "object_id", "id"])
    for guard in _GUARDS[op.get_bind().dialect.name]:
        op.execute(guard)


def downgrade() -> None:
    op.drop_table("audit_log")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_log_is_append_only()")
    op.drop_index("idx_task_runs_replay_of", "task_runs")
    op.drop_index("idx_dead_letters_created_at", "dead_letters")
    op.drop_index("idx_dead_letters_open", "dead_letters")
    for name, _ in reversed(_LETTER_COLUMNS):
        op.drop_column("dead_letters", name)
