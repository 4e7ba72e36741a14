"""What `lint.expand_zip_and_dispatch_tasks` does: one archive into one row for each SQL file.

Members are read in memory, one at a time, and written under names of our own; nothing is
unpacked to a folder. The rows are inserted in one transaction, so a second attempt either
finds all of them, with the ids that the first one chose, or none.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from app.common.ids import new_id
from app.db import Databases
from app.plugins.lint import repository
from app.plugins.lint.keys import member_key
from app.plugins.lint.models import FileStatus, JobStatus, LintingJob, LintingTask
from app.plugins.lint.processing import BIND
from app.plugins.lint.settings import LintSettings
from app.storage import SyncStorage
from app.storage.errors import StorageNotFound
from app.storage.safe_zip import (
    ArchiveRefused,
    ArchiveReport,
    Member,
    RejectedMember,
    ZipLimits,
    read_archive,
)

_MAX_REPORTED = 1000
_MAX_NAME = 1024
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """What an archive held. `task_ids` are the files that are still to be linted, largest first."""

    status: JobStatus
    task_ids: tuple[str, ...] = ()
    files: int = 0
    rejected: int = 0
    ignored: int = 0


class JobNotKnownError(LookupError):
    """There is no job of this id."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One row to be: a member that waits for its lint, or one that was refused."""

    name: str
    source_key: str
    size: int | None = None
    outcome: str | None = None
    message: str | None = None

    def to_row(self, job_id: str) -> LintingTask:
        status = FileStatus.FAILURE if self.outcome else FileStatus.PENDING
        return LintingTask(
            task_id=new_id(),
            job_id=job_id,
            status=status,
            source_file_path=self.source_key,
            file_name=_printable(self.name),
            size_bytes=self.size,
            outcome=self.outcome,
            error_message=self.message,
        )


@dataclass(frozen=True, slots=True)
class ArchiveExpander:
    """Expands the archives of jobs. Blocking; one per attempt."""

    databases: Databases
    storage: SyncStorage
    settings: LintSettings
    progress: Progress

    def expand(self, job_id: str) -> Expansion:
        """Return the files to lint; a broken archive ends its job with a message instead.

        JobNotKnownError for an unknown id. Errors of the storage and the database leave the
        job as it is, for the next attempt.
        """
        earlier = self._begin(job_id)
        if isinstance(earlier, Expansion):
            return earlier
        try:
            contents = self._read(job_id, earlier)
        except ArchiveRefused as error:
            contents = _Contents(_refused(error.rejected, earlier), error.detail)
        except StorageNotFound:
            contents = _Contents([], f"There is no file '{earlier}' on the storage.")
        return self._insert(job_id, contents)

    def fail(self, job_id: str, message: str) -> Expansion:
        """End the job as FAILED with a message for the person who submitted it."""
        with self.databases.sync_transaction(BIND) as session:
            job = repository.lock_job(session, job_id)
            if job is None:
                raise JobNotKnownError(job_id)
            if not JobStatus(job.status).has_ended:
                job.status = JobStatus.FAILED
                job.error_message = message
            return Expansion(status=JobStatus(job.status))

    def _begin(self, job_id: str) -> Expansion | str:
        """Return what an earlier attempt left, or the key of the archive to read."""
        with self.databases.sync_transaction(BIND) as session:
            job = repository.lock_job(session, job_id)
            if job is None:
                raise JobNotKnownError(job_id)
            rows = repository.tasks_of(session, job_id)
            if rows or JobStatus(job.status).has_ended:
                return _expansion(job, rows, ignored=0)
            job.status = JobStatus.PROCESSING
            return job.source_path

    def _read(self, job_id: str, source_key: str) -> "_Contents":
        limits = ZipLimits(
            max_members=self.settings.max_archive_files,
            max_archive_bytes=self.settings.max_archive_bytes,
            max_total_bytes=self.settings.max_archive_bytes,
        )
        with (
            self.storage.open_reader(source_key) as file,
            read_archive(file, limits) as report,
        ):
            return self._take(job_id, source_key, report)

    def _take(self, job_id: str, source_key: str, report: ArchiveReport) -> "_Contents":
        members = [m for m in report.members if m.name.lower().endswith(".sql")]
        entries = []
        for number, member in enumerate(members, start=1):
            entries.append(self._store(job_id, number, member, source_key))
            self.progress(number, len(members))
        entries += _refused(report.rejected, source_key)
        ignored = len(report.members) + len(report.skipped) - len(members)
        if members:
            return _Contents(entries, None, ignored)
        return _Contents(entries, "The archive holds no .sql file that can be linted.", ignored)

    def _store(self, job_id: str, number: int, member: Member, source_key: str) -> _Entry:
        limit = self.settings.max_member_bytes
        if member.size > limit:
            message = f"The file has {member.size} bytes; at most {limit} are linted."
            return _Entry(member.name, source_key, member.size, "too_large", message)
        key = member_key(job_id, number, member.name)
        self.storage.put(key, member.read())
        return _Entry(member.name, key, member.size)

    def _insert(self, job_id: str, contents: "_Contents") -> Expansion:
        with self.databases.sync_transaction(BIND) as session:
            job = repository.lock_job(session, job_id)
            if job is None:
                raise JobNotKnownError(job_id)
            rows = repository.tasks_of(session, job_id)
            if not rows:
                rows = [entry.to_row(job_id) for entry in contents.entries]
                session.add_all(rows)
                job.error_message = contents.message
                session.flush()
                repository.derive_job_status(session, job)
            return _expansion(job, rows, contents.ignored)


@dataclass(frozen=True, slots=True)
class _Contents:
    """The rows to be, and a message when there is nothing to lint among them."""

    entries: list[_Entry]
    message: str | None = None
    ignored: int = 0


def _refused(rejected: Iterable[RejectedMember], source_key: str) -> list[_Entry]:
    return [
        _Entry(bad.name or "?", source_key, outcome="rejected", message=bad.message)
        for bad in islice(rejected, _MAX_REPORTED)
    ]


def _expansion(job: LintingJob, rows: Iterable[LintingTask], ignored: int) -> Expansion:
    rows = list(rows)
    waiting = [row for row in rows if not FileStatus(row.status).has_ended]
    # The largest first, so that the last files to be linted are short ones.
    waiting.sort(key=lambda row: -(row.size_bytes or 0))
    rejected = sum(row.outcome == "rejected" for row in rows)
    return Expansion(
        status=JobStatus(job.status),
        task_ids=tuple(row.task_id for row in waiting),
        files=len(rows) - rejected,
        rejected=rejected,
        ignored=ignored,
    )


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in name)[:_MAX_NAME]
