"""What `taskyard doctor` reads from the rows: whether beat lives, and what nobody moves on."""

from collections.abc import Iterator

from sqlalchemy import func, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from app.common.errors import TaskyardError
from app.common.findings import Finding, good
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import db_now, db_now_plus
from app.tasks.agenda import DUTY
from app.tasks.models import Lease, TaskRun
from app.tasks.statuses import WAITING, Status

_SECONDS = 60.0
_RUN = TaskRun.__table__.c


def check_rows(databases: Databases, *, is_embedded: bool) -> Iterator[Finding]:
    """Yield what the tables tell; nothing when they cannot be read, which is told elsewhere."""
    file = databases.url(APPLICATION_BIND).sqlite_file
    if file is not None and not file.exists():
        return
    try:
        with databases.sync_autocommit(APPLICATION_BIND) as connection:
            found = [_check_beat(connection, is_embedded=is_embedded), *_check_stuck(connection)]
    except (DBAPIError, TaskyardError, OSError):
        return
    yield from found


def _check_beat(connection: Connection, *, is_embedded: bool) -> Finding:
    columns = Lease.__table__.c
    statement = select(columns.holder, columns.expires_at, db_now().label("now"))
    row = connection.execute(statement.where(columns.name == DUTY)).one_or_none()
    if row is not None and row.expires_at > row.now:
        return good("beat", f"led by {row.holder.rpartition(':')[0]}")
    seen = (
        "it has never run" if row is None else f"last seen at {row.expires_at:%Y-%m-%d %H:%M:%S}Z"
    )
    return Finding(
        check="beat",
        # A developer's folder is not always served.
        level="warn" if is_embedded else "fail",
        what=f"no beat is alive: {seen}",
        why="Nobody sends unpublished runs again, takes back lost ones, or archives dead letters.",
        fix="taskyard dev" if is_embedded else "taskyard beat",
    )


def _check_stuck(connection: Connection) -> Iterator[Finding]:
    ago = db_now_plus(-_SECONDS)
    unpublished = connection.execute(
        select(func.count()).where(
            _RUN.status.in_(WAITING), _RUN.published_at.is_(None), _RUN.updated_at < ago
        )
    ).scalar_one()
    lost = connection.execute(
        select(func.count()).where(_RUN.status == Status.RUNNING, _RUN.lease_expires_at < ago)
    ).scalar_one()
    if unpublished:
        yield Finding(
            check="outbox",
            level="warn",
            what=f"{unpublished} runs wait for their message for more than {_SECONDS:.0f} s",
            why="The broker was away, or no beat sends them.",
            fix="taskyard beat",
        )
    if lost:
        yield Finding(
            check="lost runs",
            level="fail",
            what=f"{lost} runs have lost their worker and were not taken back",
            why="A live beat does that within seconds.",
            fix="taskyard beat",
        )
    if not unpublished and not lost:
        yield good("outbox", "no run waits for a message or a lost worker")
