"""Cancelling a job: what waits is not linted any more, what is being linted is finished.

The rows come first. A run that starts in spite of it finds its file's outcome recorded, and an
archive that is being read finds its job ended, so neither can bring the job back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.auth.principal import Principal
from app.db import Databases
from app.plugins.lint import repository
from app.plugins.lint.errors import JobHasEnded, JobNotFound
from app.plugins.lint.metrics import count_file
from app.plugins.lint.models import BIND, FileStatus, JobStatus, LintingJob, SubmissionType
from app.plugins.lint.repository import FileOutcome
from app.tasks.errors import RunHasEnded, RunNotFound
from app.tasks.runs import Runs

CANCELLED = "cancelled"
JOB_CANCELLED = "The job was cancelled."
_FILE_CANCELLED = FileOutcome(
    status=FileStatus.FAILURE,
    outcome=CANCELLED,
    error_message="The file was not linted: the job was cancelled.",
)


@dataclass(frozen=True, slots=True)
class _Closed:
    """What the rows said: the run to stop, and whether it is reading an archive."""

    run_id: str | None
    is_archive: bool
    files: int


async def cancel_job(databases: Databases, runs: Runs, job_id: str, caller: Principal) -> None:
    """Close the files that wait and cancel their runs; JobHasEnded when nothing is left to do."""
    async with databases.transaction(BIND) as session:
        closed = await session.run_sync(_close_waiting, job_id)
    count_file(CANCELLED, files=closed.files)
    if closed.run_id is not None:
        cancelled = await runs.cancel_waiting_with_children(closed.run_id, caller)
        if closed.is_archive and closed.run_id not in cancelled:
            await _stop(runs, closed.run_id, caller)
        # Between two attempts a file counts as in progress; its run will not come again either.
        async with databases.transaction(BIND) as session:
            again = await session.run_sync(_close_files, job_id, cancelled)
        count_file(CANCELLED, files=again)
    # A worker that was at the last file may have looked before this was committed.
    async with databases.transaction(BIND) as session:
        await session.run_sync(repository.settle_job, job_id)


async def _stop(runs: Runs, run_id: str, caller: Principal) -> None:
    try:
        await runs.cancel(run_id, caller)
    except (RunHasEnded, RunNotFound):
        return


def _close_waiting(session: Session, job_id: str) -> _Closed:
    job = repository.lock_job(session, job_id)
    if job is None:
        raise JobNotFound
    if JobStatus(job.status).has_ended:
        raise JobHasEnded(job.status)
    rows = repository.tasks_of(session, job_id)
    waiting = [row.task_id for row in rows if row.status == FileStatus.PENDING]
    if waiting or not rows:
        job.error_message = JOB_CANCELLED
    if not rows:
        job.status, job.passed = JobStatus.FAILED, False
    _record(session, job, waiting)
    is_archive = job.submission_type == SubmissionType.ZIP_ARCHIVE
    return _Closed(job.run_id, is_archive, len(waiting))


def _close_files(session: Session, job_id: str, task_ids: Sequence[str]) -> int:
    job = repository.lock_job(session, job_id)
    return _record(session, job, task_ids) if job is not None else 0


def _record(session: Session, job: LintingJob, task_ids: Sequence[str]) -> int:
    ends = dict.fromkeys(task_ids, _FILE_CANCELLED)
    return len(repository.record_outcomes(session, job, ends))
