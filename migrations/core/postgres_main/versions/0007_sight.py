"""What lists, streams and retention need: a number for all that is told of a run, lists by age."""

import sqlalchemy as sa
from alembic import op

from app.db.types import IdType, JsonType, UTCDateTime

revision = "0007_sight"
down_revision = "0006_schedules"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger()
_RUNS = "task_runs"
_ENDED = "finished_at IS NOT NULL"
_UNPUBLISHED = "published_at IS NULL AND finished_at IS NULL"
_NEWEST = ["created_at", "id"]
_LISTS: dict[str, list[str]] = {
    "created_at": [],
    "status": ["status"],
    "task": ["task", "status"],
    "queue": ["queue", "status"],
}
# Each row: name, columns, condition; None for an index over all rows.
_OLD: list[tuple[str, list[str], str | None]] = [
    ("idx_task_runs_unpublished", ["updated_at"], _UNPUBLISHED),
    ("idx_task_runs_finished", ["finished_at"], _ENDED),
    ("idx_task_runs_parent_id", ["parent_id", "id"], "parent_id IS NOT NULL"),
    ("idx_task_runs_batch_id", ["batch_id", "id"], "batch_id IS NOT NULL"),
    ("idx_task_runs_schedule_id", ["schedule_id", "id"], "schedule_id IS NOT NULL"),
    ("idx_task_runs_status", ["status", "id"], None),
    ("idx_task_runs_task", ["task", "id"], None),
    ("idx_task_runs_queue", ["queue", "id"], None),
    ("idx_task_runs_trace_id", ["trace_id"], None),
    ("idx_task_runs_created_at", ["created_at"], None),
]
_NEW: list[tuple[str, list[str], str | None]] = [
    ("idx_task_runs_unpublished", ["id"], _UNPUBLISHED),
    (
        "idx_task_runs_finished",
        ["finished_at"],
        f"{_ENDED} AND retention_days IS NULL AND dead_letter_id IS NULL",
    ),
    (
        "idx_task_runs_retention",
        ["retention_days", "finished_at"],
        f"{_ENDED} AND retention_days IS NOT NULL AND dead_letter_id IS NULL",
    ),
    ("idx_task_runs_dead", ["finished_at"], f"{_ENDED} AND dead_letter_id IS NOT NULL"),
    ("idx_task_runs_parent_id", ["parent_id", *_NEWEST], "parent_id IS NOT NULL"),
    ("idx_task_runs_batch_id", ["batch_id", *_NEWEST], "batch_id IS NOT NULL"),
    ("idx_task_runs_schedule_id", ["schedule_id", *_NEWEST], "schedule_id IS NOT NULL"),
    ("idx_task_runs_trace_id", ["trace_id", *_NEWEST], None),
    *(
        (f"idx_task_runs_{name}", [*before, *_NEWEST], "tenant IS NULL")
        for name, before in _LISTS.items()
    ),
    *(
        (f"idx_task_runs_tenant_{name}", ["tenant", *before, *_NEWEST], "tenant IS NOT NULL")
        for name, before in _LISTS.items()
    ),
]
# What was told of the runs so far, numbered in the order of its time.
_TOLD = """
    WITH told AS (
        SELECT kind, id, row_number() OVER (PARTITION BY run_id ORDER BY at, kind, id) AS seq
        FROM (
            SELECT 0 AS kind, id, run_id, at FROM task_run_events
            UNION ALL
            SELECT 1 AS kind, id, run_id, at FROM task_run_logs
        ) AS everything
    )
"""


def _where(condition: str | None) -> dict[str, sa.TextClause]:
    if condition is None:
        return {}
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def _replace(
    old: list[tuple[str, list[str], str | None]], new: list[tuple[str, list[str], str | None]]
) -> None:
    for name, _, _ in old:
        op.drop_index(name, _RUNS)
    for name, columns, condition in new:
        op.create_index(name, _RUNS, columns, **_where(condition))


def upgrade() -> None:
    op.add_column(_RUNS, sa.Column("last_seq", _BIG, server_default="1", nullable=False))
    op.add_column(_RUNS, sa.Column("previous_status", sa.String(length=16)))
    op.add_column(_RUNS, sa.Column("retention_days", sa.Double()))
    for table in ("task_run_events", "task_run_logs"):
        op.add_column(table, sa.Column("seq", _BIG, server_default="1", nullable=False))
    for kind, table in enumerate(("task_run_events", "task_run_logs")):
        op.execute(
            f"{_TOLD} UPDATE {table} SET seq = told.seq FROM told"  # noqa: S608 - no input
            f" WHERE told.kind = {kind} AND told.id = {table}.id"
        )
    op.execute(
        """
        UPDATE task_runs SET last_seq =
            (SELECT count(*) FROM task_run_events WHERE run_id = task_runs.id)
            + (SELECT count(*) FROM task_run_logs WHERE run_id = task_runs.id)
        """
    )
    op.add_column(
        "task_run_logs", sa.Column("number", sa.Integer(), server_default="0", nullable=False)
    )
    for table in ("task_run_events", "task_run_logs"):
        op.create_index(f"uk_{table}_seq", table, ["run_id", "seq"], unique=True)
        op.drop_index(f"idx_{table}_run_id", table)
    op.create_table(
        "task_run_progress",
        sa.Column("run_id", IdType(), nullable=False),
        sa.Column("seq", _BIG, autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("report", JsonType(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["task_runs.id"],
            name="fk_task_run_progress_run_id_task_runs",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "seq", name="pk_task_run_progress"),
    )
    _replace(_OLD, _NEW)
    op.drop_index("idx_task_runs_labels", _RUNS)
    op.create_index(
        "idx_task_runs_labels",
        _RUNS,
        ["labels"],
        postgresql_using="gin",
        postgresql_ops={"labels": "jsonb_path_ops"},
        postgresql_where=sa.text("labels <> '{}'::jsonb"),
    )


def downgrade() -> None:
    op.drop_index("idx_task_runs_labels", _RUNS)
    op.create_index("idx_task_runs_labels", _RUNS, ["labels"], postgresql_using="gin")
    _replace(_NEW, _OLD)
    op.drop_table("task_run_progress")
    for table in ("task_run_logs", "task_run_events"):
        op.create_index(f"idx_{table}_run_id", table, ["run_id", "id"])
        op.drop_index(f"uk_{table}_seq", table)
        op.drop_column(table, "seq")
    op.drop_column("task_run_logs", "number")
    for column in ("retention_days", "previous_status", "last_seq"):
        op.drop_column(_RUNS, column)
