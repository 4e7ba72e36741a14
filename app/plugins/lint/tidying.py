"""What is done from time to time whether anybody looks or not: jobs whose runs have ended without
a word are closed, and jobs that ended long ago are deleted with their rows and files.

A round has a budget of seconds; what is left over comes with the next one.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.common.clock import utc_now
from app.common.metrics import PURGED
from app.db import Databases
from app.plugins.lint.models import BIND, JobStatus, LintingJob, LintingTask
from app.plugins.lint.reconciling import QUIET, reconcile
from app.plugins.lint.settings import LintSettings
from app.storage import Storage

_JOBS_AT_ONCE = 100
_ROWS_AT_ONCE = 1000
_OPEN = (JobStatus.ACCEPTED.value, JobStatus.PROCESSING.value)
_Jobs = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Tidied:
    """What a round did; `is_done` is False when its budget was over before the work was."""

    closed: int
    purged: int
    is_done: bool


@dataclass(frozen=True, slots=True)
class Tidying:
    """One round over all jobs; `clock` measures the budget."""

    databases: Databases
    storage: Storage
    settings: LintSettings
    clock: Callable[[], float] = time.monotonic

    async def tidy(self) -> Tidied:
        """Close what nobody will close any more, then delete what is past its retention."""
        ends_at = self.clock() + self.settings.tidy_budget_seconds
        closed = purged = 0
        async for job_id in self._jobs(_quiet_jobs):
            closed += await reconcile(self.databases, job_id)
            if self.clock() >= ends_at:
                return Tidied(closed, purged, is_done=False)
        if self.settings.retention_days > 0:
            async for job_id in self._jobs(self._old_jobs):
                if not await self._purge(job_id, ends_at):
                    return Tidied(closed, purged, is_done=False)
                purged += 1
        return Tidied(closed, purged, is_done=True)

    async def _jobs(self, find: Callable[[Session, int], _Jobs]) -> AsyncIterator[str]:
        """Yield the ids of the jobs that are found behind a row's id, oldest first."""
        after = 0
        while True:
            async with self.databases.transaction(BIND) as session:
                found = await session.run_sync(find, after)
            for row in found:
                yield row.job_id
            if len(found) < _JOBS_AT_ONCE:
                return
            after = found[-1].id

    def _old_jobs(self, session: Session, after: int) -> _Jobs:
        before = utc_now() - timedelta(days=self.settings.retention_days)
        columns = (LintingJob.id, LintingJob.job_id, LintingJob.created_at)
        has_ended = LintingJob.status.not_in(_OPEN)
        statement = select(*columns).where(has_ended, LintingJob.id > after).order_by(LintingJob.id)
        rows: _Jobs = session.execute(statement.limit(_JOBS_AT_ONCE)).all()
        # Ids grow with time: the first young job ends the search, which needs no index so.
        return list(takewhile(lambda row: row.created_at < before, rows))

    async def _purge(self, job_id: str, ends_at: float) -> bool:
        """Delete a job; False when the budget was over before. Its own row goes last, so that the
        next round finds what is left of it.
        """
        await self.storage.delete_prefix(f"jobs/{job_id}")
        is_left = True
        while is_left:
            if self.clock() >= ends_at:
                return False
            async with self.databases.transaction(BIND) as session:
                is_left = await session.run_sync(_delete_some, job_id)
        PURGED.labels("lint_jobs").inc()
        return True


def _quiet_jobs(session: Session, after: int) -> _Jobs:
    statement = select(LintingJob.id, LintingJob.job_id).where(
        LintingJob.status.in_(_OPEN),
        LintingJob.updated_at < utc_now() - QUIET,
        LintingJob.id > after,
    )
    rows: _Jobs = session.execute(statement.order_by(LintingJob.id).limit(_JOBS_AT_ONCE)).all()
    return rows


def _delete_some(session: Session, job_id: str) -> bool:
    """Delete rows of the job's files, its own when there are no more; return whether some are."""
    mine = select(LintingTask.id).where(LintingTask.job_id == job_id).limit(_ROWS_AT_ONCE)
    ids = session.scalars(mine).all()
    session.execute(delete(LintingTask).where(LintingTask.id.in_(ids)))
    if len(ids) == _ROWS_AT_ONCE:
        return True
    session.execute(delete(LintingJob).where(LintingJob.job_id == job_id))
    return False
