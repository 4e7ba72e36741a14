"""The statements that every file of an archive costs, so they are narrow and few.

None of them locks the job: a worker waits for no other one's commit.
"""

from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.engine import Connection, Row

from app.plugins.lint.models import FileStatus, JobStatus, LintingJob, LintingTask
from app.plugins.lint.repository import FAULT, UNFINISHED, FileOutcome

_FILE = LintingTask.__table__.c
_JOB = LintingJob.__table__.c
_IS_OPEN = or_(_FILE.status.in_(UNFINISHED), _FILE.outcome == FAULT)
_TO_LINT: tuple[Any, ...] = (
    _JOB.job_id,
    _JOB.submission_type,
    _JOB.status.label("job_status"),
    _JOB.dialect,
    _JOB.rules,
    _JOB.exclude_rules,
    _JOB.options,
    _JOB.profile_name,
    _JOB.baseline_job_id,
    _FILE.status,
    _FILE.outcome,
    _FILE.source_file_path,
    _FILE.file_name,
    _FILE.baseline_task_id,
)


# Built once: to put a statement together costs as much as to send it.
_THIS = _FILE.task_id == bindparam("this")
_FIND = select(*_TO_LINT).join(LintingTask.__table__, _FILE.job_id == _JOB.job_id).where(_THIS)
_START_JOB = update(LintingJob).where(
    _JOB.job_id == bindparam("this"), _JOB.status == JobStatus.ACCEPTED.value
)
_START = update(LintingTask).where(_THIS, _FILE.status.in_(UNFINISHED))
_END = update(LintingTask).where(_THIS, _IS_OPEN)
_FIND_END = select(*(_FILE[each.name] for each in fields(FileOutcome))).where(_THIS)


def find_file(connection: Connection, task_id: str) -> Row[Any] | None:
    """Return a file with what its job says of it; None when either is not there."""
    return connection.execute(_FIND, {"this": task_id}).one_or_none()


def start_job(connection: Connection, job_id: str) -> None:
    """Mark a job as in progress, if it was only accepted so far."""
    connection.execute(_START_JOB, {"this": job_id, "status": JobStatus.PROCESSING.value})


def start_file(connection: Connection, task_id: str) -> None:
    """Mark a file as in progress, unless its outcome is recorded."""
    connection.execute(_START, {"this": task_id, "status": FileStatus.IN_PROGRESS.value})


def end_file(connection: Connection, task_id: str, end: FileOutcome) -> bool:
    """Write how a file ended; return False when it has an outcome, which stays."""
    return connection.execute(_END, {"this": task_id, **asdict(end)}).rowcount > 0


def find_end(connection: Connection, task_id: str) -> FileOutcome | None:
    """Return how a file ended; None when it has not, and when it is to be linted again."""
    row = connection.execute(_FIND_END, {"this": task_id}).one_or_none()
    if row is None or row.status in UNFINISHED or row.outcome == FAULT:
        return None
    kept = {**row._mapping, "status": FileStatus(row.status), "outcome": row.outcome or ""}  # noqa: SLF001 - a public name of SQLAlchemy
    return FileOutcome(**kept)
