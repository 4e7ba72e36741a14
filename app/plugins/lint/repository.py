"""Statements on the lint tables. Each function works in the session that it is given.

A job's row is locked before rows of its files, so that two workers never wait for each other. A
worker that has linted one file takes that file's row alone (`file_rows`). So whoever has written
outcomes calls `settle_job` after the commit: the last one to commit sees that none is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, case, func, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from app.plugins.lint.models import FileStatus, JobStatus, LintingJob, LintingTask

UNFINISHED = (FileStatus.PENDING.value, FileStatus.IN_PROGRESS.value)
# The outcome of a file that met a fault of ours; running its task again lints it again.
FAULT = "fault"

# Built once: they are sent for every file.
_CLOSE = update(LintingTask).where(
    LintingTask.id == bindparam("row_id"), LintingTask.status.in_(UNFINISHED)
)
_UNFINISHED_FILE = (
    select(LintingTask.id)
    .where(LintingTask.job_id == bindparam("this"), LintingTask.status.in_(UNFINISHED))
    .limit(1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOutcome:
    """How one file ended, as its row keeps it; unless something else is said, it did not pass."""

    status: FileStatus
    outcome: str
    result_file_path: str | None = None
    error_message: str | None = None
    violation_count: int | None = None
    duration_ms: int | None = None
    passed: bool | None = False
    error_count: int | None = 1
    warning_count: int | None = 0
    note_count: int | None = 0
    new_count: int | None = None
    fixed_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilters:
    """What a list of jobs is narrowed to; every filter that is given must hold."""

    status: str | None = None
    submission_type: str | None = None
    dialect: str | None = None
    profile_name: str | None = None
    passed: bool | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


def find_job(session: Session, job_id: str) -> LintingJob | None:
    """Return the job of this id, or None."""
    return session.scalars(select(LintingJob).where(LintingJob.job_id == job_id)).one_or_none()


def lock_job(session: Session, job_id: str) -> LintingJob | None:
    """Return the job and keep its row locked until the transaction ends.

    It must be the transaction's first statement: what is counted afterwards then includes
    every file that another worker finished before it let go of the lock.
    """
    statement = select(LintingJob).where(LintingJob.job_id == job_id).with_for_update()
    return session.scalars(statement).one_or_none()


def find_task(session: Session, task_id: str) -> LintingTask | None:
    """Return the file task of this id, or None."""
    return session.scalars(select(LintingTask).where(LintingTask.task_id == task_id)).one_or_none()


def tasks_of(session: Session, job_id: str) -> Sequence[LintingTask]:
    """Return all file tasks of a job in the order in which they were added."""
    statement = select(LintingTask).where(LintingTask.job_id == job_id).order_by(LintingTask.id)
    return session.scalars(statement).all()


def page_of_tasks(
    session: Session, job_id: str, *, page: int, size: int
) -> tuple[int, Sequence[LintingTask]]:
    """Return how many file tasks the job has, and those of one page (the first is 1)."""
    mine = LintingTask.job_id == job_id
    total = session.scalar(select(func.count()).select_from(LintingTask).where(mine)) or 0
    statement = select(LintingTask).where(mine).order_by(LintingTask.id)
    return total, session.scalars(statement.offset((page - 1) * size).limit(size)).all()


def tasks_after(session: Session, job_id: str, row_id: int, limit: int) -> Sequence[LintingTask]:
    """Return up to `limit` file tasks of a job, by the ids of their rows, after one of them."""
    statement = select(LintingTask).where(LintingTask.job_id == job_id, LintingTask.id > row_id)
    return session.scalars(statement.order_by(LintingTask.id).limit(limit)).all()


def page_of_jobs(
    session: Session,
    scope: Mapping[str, Any],
    filters: JobFilters,
    *,
    before: int | None,
    limit: int,
) -> Sequence[LintingJob]:
    """Return jobs, newest first; `scope` names columns and their values, `before` is a row's id."""
    names = ("status", "submission_type", "dialect", "profile_name", "passed")
    exact = {name: getattr(filters, name) for name in names}
    wanted = {name: value for name, value in exact.items() if value is not None}
    statement = select(LintingJob).filter_by(**scope, **wanted).order_by(LintingJob.id.desc())
    if filters.created_after is not None:
        statement = statement.where(LintingJob.created_at >= filters.created_after)
    if filters.created_before is not None:
        statement = statement.where(LintingJob.created_at < filters.created_before)
    if before is not None:
        statement = statement.where(LintingJob.id < before)
    return session.scalars(statement.limit(limit)).all()


def insert_tasks(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert file tasks, all in one statement; every row has the same columns."""
    if rows:
        session.execute(insert(LintingTask), rows)


def record_outcomes(
    session: Session, job: LintingJob, ends: Mapping[str, FileOutcome]
) -> frozenset[str]:
    """Write how many files of a locked job ended; return the ids of those that had no outcome."""
    mine = select(LintingTask.task_id, LintingTask.id).where(
        LintingTask.job_id == job.job_id,
        LintingTask.task_id.in_(ends),
        LintingTask.status.in_(UNFINISHED),
    )
    rows = session.execute(mine).all()
    connection = session.connection()
    # By their primary keys, one by one: a statement over the index would lock what lies between,
    # and wait for a worker that waits for it.
    changed = set()
    for row in rows:
        end = asdict(ends[row.task_id])
        if connection.execute(_CLOSE, {"row_id": row.id, **end}).rowcount:
            changed.add(row.task_id)
    if changed:
        derive_job_status(session, job)
    return frozenset(changed)


def settle_job(session: Session, job_id: str) -> None:
    """Derive the status of a job that has no unfinished file, in a transaction of its own."""
    if has_unfinished(session, job_id):
        return
    job = lock_job(session, job_id)
    if job is not None:
        derive_job_status(session, job)


def has_unfinished(session: Session | Connection, job_id: str) -> bool:
    """Return whether a file of the job has no outcome yet."""
    return session.execute(_UNFINISHED_FILE, {"this": job_id}).first() is not None


def derive_job_status(session: Session, job: LintingJob) -> None:
    """Set a locked job's status from its files, and whether it has passed once it has ended.

    A message on the job itself counts as a loss.
    """
    if has_unfinished(session, job.job_id):
        job.status, job.passed = JobStatus.PROCESSING, None
        return
    mine = LintingTask.job_id == job.job_id
    passed = func.sum(case((LintingTask.passed.is_(True), 1), else_=0))
    unknown = func.sum(case((LintingTask.passed.is_(None), 1), else_=0))
    counted = select(LintingTask.status, func.count(), passed, unknown)
    rows = session.execute(counted.where(mine).group_by(LintingTask.status)).all()
    ended = {row.status: row[1] for row in rows}
    good, bad = ended.get(FileStatus.SUCCESS, 0), ended.get(FileStatus.FAILURE, 0)
    job.status = ended_status(good, bad + bool(job.error_message))
    # Rows of before there were policies tell nothing, so neither does their job.
    is_known = not any(row[3] for row in rows)
    all_passed = sum(row[2] for row in rows) == good + bad and not job.error_message
    job.passed = all_passed if is_known else None


def ended_status(good: int, bad: int) -> JobStatus:
    """Return the status of a job with so many linted files and losses, and none unfinished."""
    if good == 0:
        return JobStatus.FAILED
    return JobStatus.PARTIALLY_COMPLETED if bad else JobStatus.COMPLETED


def sum_counts(session: Session, job_id: str) -> Mapping[str, int]:
    """Return the sums over a job's files: how many ended and failed, their findings by severity,
    and what is new and fixed since the baseline.
    """
    has_ended = LintingTask.status.notin_(UNFINISHED)
    sums = {
        "ended": func.sum(case((has_ended, 1), else_=0)),
        "failed": func.sum(case((LintingTask.status == FileStatus.FAILURE, 1), else_=0)),
        **{
            name: func.sum(getattr(LintingTask, f"{name}_count"))
            for name in ("error", "warning", "note", "new", "fixed")
        },
    }
    statement = select(*(sum_.label(name) for name, sum_ in sums.items()))
    row = session.execute(statement.where(LintingTask.job_id == job_id)).one()
    return {name: int(value or 0) for name, value in row._mapping.items()}  # noqa: SLF001 - a public name of SQLAlchemy


class NamedRow(NamedTuple):
    """A file's task id, its name, how it ended, where its document lies and how much was found."""

    task_id: str
    name: str
    outcome: str | None
    result_file_path: str | None
    findings: int


def named_files(session: Session, job_id: str) -> Sequence[NamedRow]:
    """Return what every file of a job is called, and how it ended."""
    counts = (LintingTask.error_count, LintingTask.warning_count, LintingTask.note_count)
    found = sum((func.coalesce(count, 0) for count in counts[1:]), func.coalesce(counts[0], 0))
    statement = select(
        LintingTask.task_id,
        func.coalesce(LintingTask.file_name, ""),
        LintingTask.outcome,
        LintingTask.result_file_path,
        found,
    )
    rows = session.execute(statement.where(LintingTask.job_id == job_id)).all()
    return [NamedRow(*row) for row in rows]
