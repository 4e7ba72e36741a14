"""What `lint.process_sql_file` does: one file of a job, from its row to its result.

Each step commits by itself, because the states are for people who watch the job. A file
whose outcome is recorded is never linted again, so a message that comes twice is harmless.
"""

from dataclasses import dataclass, fields

from app.db import Databases
from app.plugins.lint import repository
from app.plugins.lint.baselines import EarlierFindings
from app.plugins.lint.judging import Verdict, head_of, judge
from app.plugins.lint.keys import result_key
from app.plugins.lint.linting import FileReport, Linter, document_of
from app.plugins.lint.metrics import count_file
from app.plugins.lint.models import (
    BIND,
    FileStatus,
    JobStatus,
    LintingJob,
    LintingTask,
    SubmissionType,
)
from app.plugins.lint.options import LintOptions, options_of
from app.plugins.lint.repository import FileOutcome
from app.storage import SyncStorage
from app.storage.errors import StorageNotFound

# The outcome of a file that met a fault of ours; running its task again lints it again.
FAULT = "fault"


@dataclass(frozen=True, slots=True)
class FileToLint:
    """What is known of a file before it is linted; `end` is its outcome when it has one."""

    job_id: str
    source_key: str
    file_name: str
    options: LintOptions
    max_bytes: int
    has_baseline: bool
    baseline_task_id: str | None
    end: FileOutcome | None


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
        if file.end is not None:
            return file.end
        report = self._lint(file)
        count_file(report.outcome, cached=report.cached)
        return self._finish(task_id, file, report)

    def give_up(self, task_id: str, message: str) -> None:
        """Record that the file could not be linted for a reason that is not in the file."""
        end = FileOutcome(status=FileStatus.FAILURE, outcome=FAULT, error_message=message)
        with self.databases.sync_transaction(BIND) as session:
            known = repository.find_task(session, task_id)
            job_id = known.job_id if known else ""
        self._record(job_id, task_id, end)
        count_file(FAULT)

    def _start(self, task_id: str) -> FileToLint:
        with self.databases.sync_transaction(BIND) as session:
            task = repository.find_task(session, task_id)
            job = repository.find_job(session, task.job_id) if task else None
            if task is None or job is None:
                raise FileNotKnownError(task_id)
            file = self._describe(task, job)
            if file.end is None:
                if job.status == JobStatus.ACCEPTED:
                    repository.start_job(session, task.job_id)
                repository.start_task(session, task_id)
        return file

    def _describe(self, task: LintingTask, job: LintingJob) -> FileToLint:
        settings = self.linter.settings
        is_member = job.submission_type == SubmissionType.ZIP_ARCHIVE
        return FileToLint(
            job_id=job.job_id,
            source_key=task.source_file_path,
            file_name=task.file_name or task.source_file_path.rsplit("/", 1)[-1],
            options=options_of(job, settings),
            max_bytes=settings.max_member_bytes if is_member else settings.max_text_bytes,
            has_baseline=job.baseline_job_id is not None,
            baseline_task_id=task.baseline_task_id,
            end=_recorded_end(task),
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
        with self.databases.sync_transaction(BIND) as session:
            job = repository.lock_job(session, job_id)
            task = repository.find_task(session, task_id)
            if job is None or task is None:
                raise FileNotKnownError(task_id)
            earlier = _recorded_end(task)
            if earlier is not None:
                return earlier
            repository.record_outcome(session, job, task, end)
        return end


def _recorded_end(task: LintingTask) -> FileOutcome | None:
    if not FileStatus(task.status).has_ended or task.outcome == FAULT:
        return None
    kept = {each.name: getattr(task, each.name) for each in fields(FileOutcome)}
    return FileOutcome(**{**kept, "status": FileStatus(task.status), "outcome": task.outcome or ""})


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
