"""What `lint.process_sql_file` does: one file of a job, from its row to its result.

Each step commits by itself, because the states are for people who watch the job. A file
whose outcome is recorded is never linted again, so a message that comes twice is harmless.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Row

from app.db import Databases
from app.plugins.lint import file_rows, repository
from app.plugins.lint.baselines import EarlierFindings
from app.plugins.lint.judging import Verdict, head_of, judge
from app.plugins.lint.keys import result_key
from app.plugins.lint.linting import FileReport, Linter, document_of
from app.plugins.lint.metrics import count_file
from app.plugins.lint.models import BIND, FileStatus, JobStatus, SubmissionType
from app.plugins.lint.options import LintOptions, options_of
from app.plugins.lint.repository import FAULT, FileOutcome
from app.storage import SyncStorage
from app.storage.errors import StorageNotFound


@dataclass(frozen=True, slots=True)
class FileToLint:
    """What is known of a file before it is linted."""

    job_id: str
    source_key: str
    file_name: str
    options: LintOptions
    max_bytes: int
    has_baseline: bool
    baseline_task_id: str | None


class FileNotKnownError(LookupError):
    """There is no file task of this id, or its job is gone."""


@dataclass(frozen=True, slots=True)
class FileProcessor:
    """Lints single files of jobs. Blocking; one per attempt."""

    databases: Databases
    storage: SyncStorage
    linter: Linter

    def process(self, task_id: str) -> FileOutcome:
        """Return the file's outcome, which is recorded when this returns.

        FileNotKnownError for an unknown id. Errors of the storage, the database and the
        sandbox itself leave the file in progress, for the next attempt.
        """
        file = self._start(task_id)
        if isinstance(file, FileOutcome):
            return file
        report = self._lint(file)
        count_file(report.outcome, cached=report.cached)
        return self._finish(task_id, file, report)

    def give_up(self, task_id: str, message: str) -> None:
        """Record that the file could not be linted for a reason that is not in the file."""
        end = FileOutcome(status=FileStatus.FAILURE, outcome=FAULT, error_message=message)
        with self.databases.sync_begin(BIND) as connection:
            known = file_rows.find_file(connection, task_id)
        if known is None:
            raise FileNotKnownError(task_id)
        self._record(known.job_id, task_id, end)
        count_file(FAULT)

    def _start(self, task_id: str) -> FileToLint | FileOutcome:
        """Return the file, which is in progress now, or its outcome when it has one."""
        with self.databases.sync_begin(BIND) as connection:
            row = file_rows.find_file(connection, task_id)
            if row is None:
                raise FileNotKnownError(task_id)
            end = None
            if row.status not in repository.UNFINISHED:
                end = file_rows.find_end(connection, task_id)
            if end is None:
                if row.job_status == JobStatus.ACCEPTED:
                    file_rows.start_job(connection, row.job_id)
                file_rows.start_file(connection, task_id)
        if end is None:
            return self._describe(row)
        # The attempt that recorded it may have died before it looked at the job.
        self._settle(row.job_id)
        return end

    def _describe(self, row: Row[Any]) -> FileToLint:
        settings = self.linter.settings
        is_member = row.submission_type == SubmissionType.ZIP_ARCHIVE
        return FileToLint(
            job_id=row.job_id,
            source_key=row.source_file_path,
            file_name=row.file_name or row.source_file_path.rsplit("/", 1)[-1],
            options=options_of(row, settings),
            max_bytes=settings.max_member_bytes if is_member else settings.max_text_bytes,
            has_baseline=row.baseline_job_id is not None,
            baseline_task_id=row.baseline_task_id,
        )

    def _lint(self, file: FileToLint) -> FileReport:
        try:
            # The size first: a huge file is not read to learn that it is too large.
            size = self.storage.size(file.source_key)
            if size > file.max_bytes:
                message = f"The file has {size} bytes; at most {file.max_bytes} are linted."
                return FileReport(outcome="too_large", message=message)
            data = self.storage.get(file.source_key)
        except StorageNotFound:
            message = "The source file is no longer on the storage."
            return FileReport(outcome="missing", message=message)
        return self.linter.lint_bytes(
            data, file.options.profile, file_name=file.file_name, max_bytes=file.max_bytes
        )

    def _finish(self, task_id: str, file: FileToLint, report: FileReport) -> FileOutcome:
        earlier = self.earlier.marks_of(file.baseline_task_id) if file.has_baseline else None
        verdict = judge(report, file.options.policy, earlier)
        key = None
        if report.known is not None:
            key = result_key(file.job_id, task_id)
            head = head_of(file.file_name, file.options, verdict)
            self.storage.put(key, document_of(report.known, head))
        return self._record(file.job_id, task_id, outcome_of(report, key, verdict))

    @property
    def earlier(self) -> EarlierFindings:
        """What was found in the files of a baseline."""
        return EarlierFindings(self.databases, self.storage)

    def _record(self, job_id: str, task_id: str, end: FileOutcome) -> FileOutcome:
        with self.databases.sync_begin(BIND) as connection:
            if not file_rows.end_file(connection, task_id, end):
                earlier = file_rows.find_end(connection, task_id)
                if earlier is None:
                    raise FileNotKnownError(task_id)
                end = earlier
        self._settle(job_id)
        return end

    def _settle(self, job_id: str) -> None:
        """End the job when this was its last file: after the commit, so that of two that end at
        the same moment at least one sees the other's outcome.
        """
        with self.databases.sync_begin(BIND) as connection:
            if repository.has_unfinished(connection, job_id):
                return
        with self.databases.sync_transaction(BIND) as session:
            repository.settle_job(session, job_id)


def outcome_of(report: FileReport, result_key: str | None, verdict: Verdict) -> FileOutcome:
    """Return what the row keeps of a report whose document lies under the key."""
    return FileOutcome(
        status=FileStatus.SUCCESS if report.linted else FileStatus.FAILURE,
        outcome=report.outcome,
        result_file_path=result_key,
        error_message=report.message,
        violation_count=report.known.violations if report.known else None,
        duration_ms=round(report.seconds * 1000),
        **verdict.to_columns(),
    )
