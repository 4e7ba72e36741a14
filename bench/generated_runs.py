"""Millions of rows that look like a year of work, made inside PostgreSQL by `generate_series`."""

from typing import Final

from sqlalchemy import text

from app.config.settings import APPLICATION_BIND, Settings
from app.db import Databases, migrations

TENANT: Final = "tenant-3"
TRACE_OF_BATCH: Final = "0000000000000000000000000000abcd"
PARENT: Final = "00000000-0000-7000-8000-0000000000aa"
BATCH: Final = "00000000-0000-7000-8000-0000000000bb"

# What is rare stays rare in a small table too: one run in a hundred has the rare label, and the
# batch has 500 runs, so that every list of the comparison fills its page in both sizes.
_RUNS = """
    INSERT INTO task_runs (
        id, task, function, status, params, options, labels, result, error, attempt, max_attempts,
        fence, queue, priority, published_at, created_by, tenant, parent_id, batch_id, trace_id,
        created_at, started_at, finished_at, updated_at, last_seq, previous_status,
        lease_owner, lease_expires_at, scheduled_for
    )
    SELECT
        id, task, task, status,
        json_build_object('number', i, 'text', repeat('x', 100)), CAST('{}' AS json),
        CASE WHEN i % 2 = 0 THEN jsonb_build_object('team', 'team-' || (i / 2) % 4,
            'customer', 'customer-' || i % 100) ELSE '{}' END,
        CASE WHEN status = 'SUCCEEDED' THEN CAST('{"rows": 12}' AS json) END,
        CASE WHEN status = 'FAILED' THEN json_build_object('type', 'ValueError',
            'message', 'row ' || i || ' is wrong', 'retryable', true) END,
        1, 3, 1, queue, 5, at, 'somebody',
        CASE WHEN i % 10 >= 7 THEN 'tenant-' || i % 5 END,
        CASE WHEN i % 10 < 7 AND i % :every = 0 THEN CAST(:parent AS uuid) END,
        CASE WHEN i % 10 < 7 AND i % :every = 0 THEN CAST(:batch AS uuid) END,
        CASE WHEN i % :every = 0 THEN :trace ELSE md5(CAST(i AS text)) END,
        at, at, CASE WHEN status NOT IN ('PENDING', 'RUNNING') THEN at + interval '2 s' END,
        at + interval '2 s', 3, 'RUNNING',
        CASE WHEN status = 'RUNNING' THEN 'worker@host:1' END,
        CASE WHEN status = 'RUNNING' THEN now() + interval '1 h' END, NULL
    FROM (
        SELECT i, at, 'plugin.task_' || (i / 7) % 20 AS task, 'queue_' || i % 4 AS queue,
            CAST(lpad(to_hex(CAST(extract(epoch FROM at) * 1000 AS bigint)), 12, '0')
                || '7' || lpad(to_hex(i % 4096), 3, '0') || '8' || lpad(to_hex(i), 15, '0')
                AS uuid) AS id,
            CASE WHEN i % 1000 = 0 THEN 'RUNNING' WHEN i % 500 < 3 THEN 'PENDING'
                WHEN i % 100 < 6 THEN 'FAILED' WHEN i % 100 < 8 THEN 'CANCELLED'
                WHEN i % 100 < 9 THEN 'EXPIRED' ELSE 'SUCCEEDED' END AS status
        FROM (
            SELECT i, now() - (:rows - i) * interval '1 second' AS at
            FROM generate_series(1, CAST(:rows AS bigint)) AS i
        ) AS moments
    ) AS runs
"""
_EVENTS = """
    INSERT INTO task_run_events (run_id, seq, at, from_status, to_status, attempt, actor)
    SELECT id, seq, created_at, before, after, least(seq - 1, 1), 'core'
    FROM task_runs, (VALUES (1, NULL, 'PENDING'), (2, 'PENDING', 'RUNNING'),
        (3, 'RUNNING', 'SUCCEEDED')) AS told(seq, before, after)
    WHERE CAST(params ->> 'number' AS bigint) % 5 = 0
"""
_LETTERS = """
    INSERT INTO dead_letters (id, run_id, task, queue, origin, error_type, error_message, attempts,
        tenant, created_at)
    SELECT gen_random_uuid(), id, task, queue, 'run', 'Error' || attempt, 'it failed', 1,
        tenant, created_at
    FROM task_runs WHERE status = 'FAILED'
"""
_LINK = """
    UPDATE task_runs SET dead_letter_id = dead_letters.id FROM dead_letters
    WHERE dead_letters.run_id = task_runs.id
"""


def generate(settings: Settings, rows: int) -> None:
    """Migrate the empty database of the settings and fill it with so many runs."""
    options = settings.databases[APPLICATION_BIND].model_copy(
        update={"statement_timeout_seconds": 3600.0}
    )
    databases = Databases({**settings.databases, APPLICATION_BIND: options})
    migrations.upgrade(databases, (), owner="core")
    values = {
        "rows": rows,
        "every": max(1, rows // 500),
        "parent": PARENT,
        "batch": BATCH,
        "trace": TRACE_OF_BATCH,
    }
    with databases.sync_begin(APPLICATION_BIND) as connection:
        connection.execute(text(_RUNS), values)
        for statement in (_EVENTS, _LETTERS, _LINK):
            connection.execute(text(statement))
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        connection.execute(text("VACUUM ANALYZE"))
    databases.dispose_sync()
