"""Database sessions that hold a run's row while their process stands still.

A worker that freezes in the middle of recording an outcome keeps the lock on the row, and the
sweeper passes the run over. `idle_in_transaction_session_timeout` ends such a session only between
two statements: frozen between the messages of one statement (asyncpg sends Parse, waits, and sends
Bind) the session counts as active, and neither that limit nor `statement_timeout` ends it.
"""

from typing import Final

from sqlalchemy import text

from app.common.logging import get_logger
from app.config.settings import APPLICATION_BIND
from app.db import Databases

# The session that has written the row is the one whose transaction is the row's xmax. It is ended
# only when the server has waited for its client for so long, and the lease has been over for so
# long: a living worker's recording takes milliseconds.
_END: Final = text(
    """
    SELECT CAST(run.id AS text) AS run_id, pg_terminate_backend(session.pid) AS ended
    FROM task_runs AS run
    JOIN pg_locks AS held
      ON held.locktype = 'transactionid' AND held.granted AND held.transactionid = run.xmax
    JOIN pg_stat_activity AS session ON session.pid = held.pid
    WHERE run.status = 'RUNNING'
      AND run.lease_expires_at < now() - make_interval(secs => :seconds)
      AND session.wait_event = 'ClientRead'
      AND session.usename = current_user
      AND session.state_change < now() - make_interval(secs => :seconds)
    """
)
log = get_logger(__name__)


async def end_frozen_sessions(databases: Databases, seconds: float) -> list[str]:
    """End the sessions that have held the row of a silent run for so long; return the run ids.

    Only PostgreSQL locks single rows; elsewhere there is nothing to do.
    """
    if databases.dialect(APPLICATION_BIND) != "postgresql":
        return []
    async with databases.autocommit(APPLICATION_BIND) as connection:
        rows = (await connection.execute(_END, {"seconds": seconds})).all()
    ended = [row.run_id for row in rows if row.ended]
    for run_id in ended:
        log.warning("ended the session of a frozen worker", task_id=run_id)
    return ended
