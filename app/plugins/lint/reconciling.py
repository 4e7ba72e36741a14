"""Jobs whose runs ended without a word: killed for good, cancelled, or never accepted.

Nothing is atomic across the two databases, so a run can end, in the table of runs,
before it has written its file's row. Looking at a job that has been quiet for a while
compares the two sides and closes what nobody will close any more; `tidying` looks at all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.common.clock import utc_now
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.plugins.lint import repository
from app.plugins.lint.models import (
    BIND,
    FileStatus,
    JobStatus,
    LintingJob,
    LintingTask,
    SubmissionType,
)
from app.plugins.lint.repository import FAULT, FileOutcome
from app.tasks.models import TaskRun
from app.tasks.statuses import Status

QUIET = timedelta(seconds=15)
_MOST_AT_ONCE = 500
_MISSING = "its run was never accepted; submit it again"
_WORDS = {
    Status.FAILED: "its run failed for good",
    Status.CANCELLED: "its run was cancelled",
    Status.EXPIRED: "its run was not started in time",
}


@dataclass(frozen=True, slots=True)
class _Open:
    """What of a job has no outcome yet: the archive itself, or files, by the ids of their runs."""

    run_ids: tuple[str, ...]
    archive: bool


async def reconcile(databases: Databases, job_id: str) -> bool:
    """Close the files, or the archive, of a quiet job whose runs have ended without success, and
    the job itself when no file is open any more; return whether anything was closed.
    """
    async with databases.transaction(BIND) as session:
        waiting = await session.run_sync(_find_open, job_id)
    if waiting is None:
        return False
    closed = await _close_ended(databases, job_id, waiting) if waiting.run_ids else True
    if closed and not waiting.archive:
        # Its workers may have died between the last file's outcome and the job's.
        async with databases.transaction(BIND) as session:
            await session.run_sync(repository.settle_job, job_id)
    return closed


async def _close_ended(databases: Databases, job_id: str, waiting: _Open) -> bool:
    states = await _run_states(databases, waiting.run_ids)
    reasons = {
        run_id: _WORDS[states[run_id]] if run_id in states else _MISSING
        for run_id in waiting.run_ids
        if run_id not in states or states[run_id] in _WORDS
    }
    if reasons:
        async with databases.transaction(BIND) as session:
            await session.run_sync(_close, job_id, reasons, waiting.archive)
    return bool(reasons)


def _find_open(session: Session, job_id: str) -> _Open | None:
    job = repository.find_job(session, job_id)
    if job is None or JobStatus(job.status).has_ended or job.updated_at > utc_now() - QUIET:
        return None
    mine = LintingTask.job_id == job_id
    if session.scalar(select(LintingTask.id).where(mine).limit(1)) is not None:
        # A worker is at one of its files: somebody who watches the job asks again soon.
        at_work = select(LintingTask.id).where(
            mine,
            LintingTask.status == FileStatus.IN_PROGRESS,
            LintingTask.updated_at > utc_now() - QUIET,
        )
        if session.scalar(at_work.limit(1)) is not None:
            return None
        unfinished = select(LintingTask.task_id).where(
            mine, LintingTask.status.in_(repository.UNFINISHED)
        )
        waiting = session.scalars(unfinished.order_by(LintingTask.id).limit(_MOST_AT_ONCE))
        return _Open(tuple(waiting), archive=False)
    if job.submission_type == SubmissionType.ZIP_ARCHIVE and job.run_id:
        return _Open((job.run_id,), archive=True)
    return None


async def _run_states(databases: Databases, run_ids: Sequence[str]) -> dict[str, Status]:
    statement = select(TaskRun.id, TaskRun.status).where(TaskRun.id.in_(run_ids))
    async with databases.autocommit(APPLICATION_BIND) as connection:
        rows = (await connection.execute(statement)).all()
    return {row.id: Status(row.status) for row in rows}


def _close(session: Session, job_id: str, reasons: Mapping[str, str], archive: bool) -> None:  # noqa: FBT001 - positional for run_sync
    job = repository.lock_job(session, job_id)
    if job is None or JobStatus(job.status).has_ended:
        return
    if archive:
        _close_archive(job, next(iter(reasons.values())))
        return
    repository.record_outcomes(
        session, job, {run_id: _not_linted(reason) for run_id, reason in reasons.items()}
    )


def _not_linted(reason: str) -> FileOutcome:
    message = f"The file was not linted: {reason}."
    return FileOutcome(status=FileStatus.FAILURE, outcome=FAULT, error_message=message)


def _close_archive(job: LintingJob, reason: str) -> None:
    job.status, job.passed = JobStatus.FAILED, False
    job.error_message = f"The archive was not read: {reason}."
