"""Lint jobs as the API sees them: submit, look up, list, cancel, report.

The rows of a job are written before its run is submitted, since a run must find them. A
submission that fails takes its rows and files back.
"""

import contextlib
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.auth.principal import Principal
from app.common.errors import FieldError, TaskyardError
from app.common.ids import new_id
from app.common.tracing import current_trace, new_trace
from app.db import Databases
from app.plugins.lint import repository
from app.plugins.lint.baselines import Baseline, NamedFile, baseline_of
from app.plugins.lint.cancelling import cancel_job
from app.plugins.lint.errors import (
    JobNotFinished,
    LintFieldInvalid,
    LintPathInvalid,
    LintSourceMissing,
    SqlTooLarge,
)
from app.plugins.lint.keys import OWN_FOLDERS, shown_name, text_key, upload_key
from app.plugins.lint.models import (
    BIND,
    FileStatus,
    JobStatus,
    LintingJob,
    LintingTask,
    SubmissionType,
)
from app.plugins.lint.ordering import Order, Ordering, find_visible_job
from app.plugins.lint.reconciling import reconcile
from app.plugins.lint.reports import JobContent
from app.plugins.lint.repository import JobFilters
from app.plugins.lint.settings import LintSettings
from app.storage import Storage, check_key
from app.tasks.requests import RunOptions, RunRequest
from app.tasks.runs import Runs
from app.tasks.submission import Submission

PROCESS_TASK = "lint.process_sql_file"
EXPAND_TASK = "lint.expand_zip_and_dispatch_tasks"
_PRIORITY = 7


class LintServices(Protocol):
    """What the service needs of the process; `app.tasks.services.Services` has it."""

    @property
    def databases(self) -> Databases: ...

    @property
    def storage(self) -> Storage: ...

    @property
    def submission(self) -> Submission: ...

    @property
    def runs(self) -> Runs: ...


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it is looked at: how many files, the sums over them, and one page of them."""

    job: LintingJob
    total: int
    sums: Mapping[str, int]
    files: list[LintingTask]


@dataclass(frozen=True, slots=True)
class _Source:
    key: str
    file_name: str | None
    kind: SubmissionType
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LintJobs:
    """The jobs of one installation, within what the caller may see."""

    services: LintServices
    settings: LintSettings

    @property
    def ordering(self) -> Ordering:
        """What reads a request's options."""
        return Ordering(self.services.databases, self.settings)

    async def submit(
        self,
        principal: Principal,
        order: Order,
        *,
        sql_content: str | None,
        zip_file_path: str | None,
    ) -> str:
        """Return the id of a new job for exactly one of the two sources.

        LintSourceMissing for none or both, LintFieldInvalid for a blank text, SqlTooLarge,
        LintPathInvalid or StorageKeyError for a path that is no file below the root.
        """
        if (sql_content is None) == (zip_file_path is None):
            raise LintSourceMissing
        job_id = _new_job_id()
        if sql_content is not None:
            data = self._check_text(sql_content)
            key = text_key(job_id)
            source = _Source(key, "query.sql", SubmissionType.SINGLE_FILE, len(data))
            await self.services.storage.put(key, data)
        else:
            key = await self._check_path(zip_file_path or "", principal)
            source = _Source(key, shown_name(key), SubmissionType.ZIP_ARCHIVE)
        return await self._accept(job_id, principal, order, source)

    async def submit_upload(
        self,
        principal: Principal,
        order: Order,
        *,
        file_name: str,
        extension: str,
        chunks: AsyncIterable[bytes],
        max_bytes: int,
    ) -> str:
        """Return the id of a new job for a checked upload; StorageTooLarge over the limit."""
        job_id = _new_job_id()
        key = upload_key(job_id, extension)
        size = await self.services.storage.put_stream(key, chunks, max_bytes=max_bytes)
        is_zip = extension == "zip"
        kind = SubmissionType.ZIP_ARCHIVE if is_zip else SubmissionType.SINGLE_FILE
        source = _Source(key, shown_name(file_name), kind, size)
        return await self._accept(job_id, principal, order, source)

    async def get(self, job_id: str, principal: Principal, *, page: int, size: int) -> "JobView":
        """Return a job, its sums and one page of its files; JobNotFound."""
        await self._find(job_id, principal)
        await reconcile(self.services.databases, job_id)
        job = await self._find(job_id, principal)
        async with self.services.databases.transaction(BIND) as session:
            total, rows = await session.run_sync(_page, job_id, page, size)
            sums = await session.run_sync(repository.sum_counts, job_id)
        return JobView(job, total, sums, rows)

    async def cancel(self, job_id: str, principal: Principal) -> LintingJob:
        """Cancel what waits of a job; return the job as it is then. JobHasEnded, JobNotFound."""
        job = await self._find(job_id, principal)
        await cancel_job(self.services.databases, self.services.runs, job.job_id, principal)
        return await self._find(job_id, principal)

    async def report(
        self, job_id: str, principal: Principal, baseline_job_id: str | None = None
    ) -> JobContent:
        """Return what there is to report on an ended job; JobNotFound, JobNotFinished.

        It is compared with the baseline, else with the one that it was submitted with. Of that one
        only what is left counts: somebody may have removed it.
        """
        await self._find(job_id, principal)
        await reconcile(self.services.databases, job_id)
        job = await self._find_ended(job_id, principal)
        if baseline_job_id is not None:
            await self._find_ended(baseline_job_id, principal)
        baseline = baseline_job_id or job.baseline_job_id
        return JobContent(job, self.services.databases, self.services.storage, baseline)

    async def _find_ended(self, job_id: str, principal: Principal) -> LintingJob:
        job = await self._find(job_id, principal)
        if not JobStatus(job.status).has_ended:
            raise JobNotFinished(job.status)
        return job

    async def list(
        self, principal: Principal, filters: JobFilters, *, before: int | None, limit: int
    ) -> list[LintingJob]:
        """Return up to `limit` jobs, newest first: the caller's own, an administrator's all."""
        scope: dict[str, Any] = {}
        if not principal.allows("admin"):
            scope |= {"created_by": principal.id}
        if principal.tenant is not None:
            scope |= {"tenant": principal.tenant}
        async with self.services.databases.transaction(BIND) as session:
            return await session.run_sync(_jobs, scope, filters, before, limit)

    def _check_text(self, sql_content: str) -> bytes:
        if not sql_content.strip():
            error = FieldError(("body", "sql_content"), "must not be blank", "blank_text")
            raise LintFieldInvalid("'sql_content' holds no SQL.", errors=[error])
        data = sql_content.encode("utf-8")
        limit = self.settings.max_text_bytes
        if len(data) > limit:
            raise SqlTooLarge(f"The text has {len(data)} bytes; the limit is {limit}.")
        return data

    async def _check_path(self, path: str, principal: Principal) -> str:
        key = check_key(path)
        if key.split("/", 1)[0] in OWN_FOLDERS and not principal.allows("admin"):
            raise LintPathInvalid("'zip_file_path' lies in a folder of the service itself.")
        if not await self.services.storage.exists(key):
            raise LintPathInvalid("'zip_file_path' names no file below the storage root.")
        return key

    async def _accept(
        self, job_id: str, principal: Principal, order: Order, source: _Source
    ) -> str:
        run_id = new_id()
        job = LintingJob(
            job_id=job_id,
            status=JobStatus.ACCEPTED,
            submission_type=source.kind,
            source_path=source.key,
            file_name=source.file_name,
            run_id=run_id,
            baseline_job_id=order.baseline_job_id,
            created_by=principal.id,
            tenant=principal.tenant,
            **order.options.to_columns(),
        )
        is_single = source.kind is SubmissionType.SINGLE_FILE
        rows: list[LintingJob | LintingTask] = [job]
        if is_single:
            rows.append(await self._single_task(job, run_id, source))
        request = RunRequest(
            task=PROCESS_TASK if is_single else EXPAND_TASK,
            params={"task_id": run_id} if is_single else {"job_id": job_id},
            task_id=run_id,
            # One file, or the list of an archive's files, is what somebody waits for.
            options=RunOptions(priority=_PRIORITY),
            labels={"job_id": job_id},
        )
        try:
            async with self.services.databases.transaction(BIND) as session:
                session.add_all(rows)
            await self.services.submission.submit(
                request, principal=principal, trace=current_trace() or new_trace()
            )
        except BaseException:
            await self._take_back(job_id)
            raise
        return job_id

    async def _single_task(self, job: LintingJob, run_id: str, source: _Source) -> LintingTask:
        baseline = Baseline()
        if job.baseline_job_id is not None:
            async with self.services.databases.transaction(BIND) as session:
                rows = await session.run_sync(repository.named_files, job.baseline_job_id)
            baseline = baseline_of(rows, [NamedFile(run_id, source.file_name or "")])
            job.options = baseline.told_in(job.options)
        return LintingTask(
            task_id=run_id,
            job_id=job.job_id,
            status=FileStatus.PENDING,
            source_file_path=source.key,
            file_name=source.file_name,
            size_bytes=source.size_bytes,
            baseline_task_id=baseline.task_id_of(run_id),
        )

    async def _take_back(self, job_id: str) -> None:
        # Whatever cannot be removed now is harmless: a job without a run is closed when looked at.
        with contextlib.suppress(TaskyardError, OSError):
            async with self.services.databases.transaction(BIND) as session:
                await session.run_sync(_remove, job_id)
            await self.services.storage.delete_prefix(f"jobs/{job_id}")

    async def _find(self, job_id: str, principal: Principal) -> LintingJob:
        return await find_visible_job(self.services.databases, job_id, principal)


def _new_job_id() -> str:
    return f"job-{new_id()}"


def _page(session: Session, job_id: str, page: int, size: int) -> tuple[int, list[LintingTask]]:
    total, rows = repository.page_of_tasks(session, job_id, page=page, size=size)
    return total, list(rows)


def _jobs(
    session: Session, scope: dict[str, Any], filters: JobFilters, before: int | None, limit: int
) -> list[LintingJob]:
    return list(repository.page_of_jobs(session, scope, filters, before=before, limit=limit))


def _remove(session: Session, job_id: str) -> None:
    session.execute(delete(LintingTask).where(LintingTask.job_id == job_id))
    session.execute(delete(LintingJob).where(LintingJob.job_id == job_id))
