"""What `lint.expand_zip_and_dispatch_tasks` does: one archive into one row for each SQL file.

Members are read in memory, a few at a time, and written under names of our own; nothing is
unpacked to a folder. The rows are inserted in one transaction, so a second attempt either
finds all of them, with the ids that the first one chose, or none. Files whose result is known
are finished here; after a crash in the middle of that, the others find it in their own runs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from app.common.clock import utc_now
from app.common.ids import new_id
from app.db import Databases
from app.plugins.lint import repository
from app.plugins.lint.caching import KnownLints
from app.plugins.lint.keys import member_key, result_key
from app.plugins.lint.linting import report_of
from app.plugins.lint.metrics import count_file
from app.plugins.lint.models import FileStatus, JobStatus, LintingJob, LintingTask
from app.plugins.lint.processing import BIND, outcome_of, profile_of
from app.plugins.lint.profiles import Profile
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
# So many results, or bytes of sources, are in memory at a time.
_AT_ONCE = 100
_BYTES_AT_ONCE = 4 * 1024 * 1024
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """What an archive held.

    `task_ids` are the files that are still to be linted, largest first and each content once
    before it comes again; `known` are those that have a document already, with its key.
    """

    status: JobStatus
    task_ids: tuple[str, ...] = ()
    known: Mapping[str, str] = field(default_factory=dict)
    files: int = 0
    rejected: int = 0
    ignored: int = 0


class JobNotKnownError(LookupError):
    """There is no job of this id."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """An archive that nobody has read yet."""

    source_key: str
    profile: Profile


@dataclass(frozen=True, slots=True)
class _Entry:
    """One row to be: a member that waits for its lint, or one that was refused."""

    name: str
    source_key: str
    size: int | None = None
    outcome: str | None = None
    message: str | None = None
    # What the result of this content is known by; None for a file that will have no result.
    lint_key: str | None = None
    task_id: str = field(default_factory=new_id)

    def to_row(self, job_id: str) -> dict[str, Any]:
        now = utc_now()
        return {
            "task_id": self.task_id,
            "job_id": job_id,
            "status": FileStatus.FAILURE if self.outcome else FileStatus.PENDING,
            "source_file_path": self.source_key,
            "file_name": _printable(self.name),
            "size_bytes": self.size,
            "outcome": self.outcome,
            "error_message": self.message,
            "created_at": now,
            "updated_at": now,
        }


@dataclass(frozen=True, slots=True)
class ArchiveExpander:
    """Expands the archives of jobs. Blocking; one per attempt."""

    databases: Databases
    storage: SyncStorage
    settings: LintSettings
    known_lints: KnownLints
    progress: Progress

    def expand(self, job_id: str) -> Expansion:
        """Return the files to lint; a broken archive ends its job with a message instead.

        JobNotKnownError for an unknown id. Errors of the storage and the database leave the
        job as it is, for the next attempt.
        """
        begun = self._begin(job_id)
        if isinstance(begun, Expansion):
            return begun
        try:
            contents = self._read(job_id, begun)
        except ArchiveRefused as error:
            contents = _Contents(_refused(error.rejected, begun.source_key), error.detail)
        except StorageNotFound:
            contents = _Contents([], f"There is no file '{begun.source_key}' on the storage.")
        if self._insert(job_id, contents):
            self._finish_known(job_id, contents.entries)
        return self._look(job_id, contents)

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

    def _begin(self, job_id: str) -> Expansion | _Begun:
        """Return what an earlier attempt left, or the archive to read."""
        with self.databases.sync_transaction(BIND) as session:
            job = repository.lock_job(session, job_id)
            if job is None:
                raise JobNotKnownError(job_id)
            rows = repository.tasks_of(session, job_id)
            if rows or JobStatus(job.status).has_ended:
                return _expansion(job, rows)
            job.status = JobStatus.PROCESSING
            return _Begun(job.source_path, profile_of(job, self.settings))

    def _read(self, job_id: str, begun: _Begun) -> "_Contents":
        limits = ZipLimits(
            max_members=self.settings.max_archive_files,
            max_archive_bytes=self.settings.max_archive_bytes,
            max_total_bytes=self.settings.max_archive_bytes,
        )
        with (
            self.storage.open_reader(begun.source_key) as file,
            read_archive(file, limits) as report,
        ):
            return self._take(job_id, begun, report)

    def _take(self, job_id: str, begun: _Begun, report: ArchiveReport) -> "_Contents":
        members = [m for m in report.members if m.name.lower().endswith(".sql")]
        entries: list[_Entry] = []
        for some in _in_parts(members):
            entries += self._store(job_id, len(entries) + 1, some, begun)
            self.progress(len(entries), len(members))
        entries += _refused(report.rejected, begun.source_key)
        ignored = len(report.members) + len(report.skipped) - len(members)
        if members:
            return _Contents(entries, None, ignored)
        return _Contents(entries, "The archive holds no .sql file that can be linted.", ignored)

    def _store(self, job_id: str, first: int, members: list[Member], begun: _Begun) -> list[_Entry]:
        """Write some members to the storage; return their rows, numbered from `first`."""
        limit = self.settings.max_member_bytes
        entries, files = [], []
        for number, member in enumerate(members, start=first):
            if member.size > limit:
                message = f"The file has {member.size} bytes; at most {limit} are linted."
                too_large = (begun.source_key, member.size, "too_large", message)
                entries.append(_Entry(member.name, *too_large))
                continue
            data, key = member.read(), member_key(job_id, number, member.name)
            lint_key = self.known_lints.key(data, begun.profile)
            files.append((key, data))
            entries.append(_Entry(member.name, key, member.size, lint_key=lint_key))
        self.storage.put_many(files)
        return entries

    def _insert(self, job_id: str, contents: "_Contents") -> bool:
        """Insert the rows; return False when another attempt has inserted its own."""
        with self.databases.sync_transaction(BIND) as session:
            job = repository.lock_job(session, job_id)
            if job is None:
                raise JobNotKnownError(job_id)
            if repository.tasks_of(session, job_id):
                return False
            repository.insert_tasks(session, [entry.to_row(job_id) for entry in contents.entries])
            job.error_message = contents.message
            repository.derive_job_status(session, job)
        for entry in contents.entries:
            if entry.outcome is not None:
                count_file(entry.outcome)
        return True

    def _finish_known(self, job_id: str, entries: Iterable[_Entry]) -> None:
        """Write the documents of files that were linted before, and record them."""
        waiting = iter([(entry, entry.lint_key) for entry in entries if entry.lint_key])
        while some := list(islice(waiting, _AT_ONCE)):
            found = self.known_lints.find([key for _, key in some])
            reports = {
                entry.task_id: report_of(found[key], _printable(entry.name))
                for entry, key in some
                if key in found
            }
            ends = {
                task_id: outcome_of(report, result_key(job_id, task_id))
                for task_id, report in reports.items()
            }
            self.storage.put_many(
                (result_key(job_id, task_id), report.stored or b"")
                for task_id, report in reports.items()
            )
            with self.databases.sync_transaction(BIND) as session:
                job = repository.lock_job(session, job_id)
                if job is None:
                    raise JobNotKnownError(job_id)
                for task_id in repository.record_outcomes(session, job, ends):
                    count_file(ends[task_id].outcome, cached=True)

    def _look(self, job_id: str, contents: "_Contents") -> Expansion:
        with self.databases.sync_transaction(BIND) as session:
            job = repository.lock_job(session, job_id)
            if job is None:
                raise JobNotKnownError(job_id)
            return _expansion(job, repository.tasks_of(session, job_id), contents)


@dataclass(frozen=True, slots=True)
class _Contents:
    """The rows to be, and a message when there is nothing to lint among them."""

    entries: list[_Entry] = field(default_factory=list)
    message: str | None = None
    ignored: int = 0

    def repeated(self) -> frozenset[str]:
        """Return the ids of files whose content came before."""
        seen: set[str | None] = {None}
        again = set()
        for entry in self.entries:
            if entry.lint_key in seen:
                again.add(entry.task_id)
            seen.add(entry.lint_key)
        return frozenset(again)


def _in_parts(members: Iterable[Member]) -> Iterator[list[Member]]:
    """Yield the members, as many at a time as may be in memory together."""
    part: list[Member] = []
    held = 0
    for member in members:
        if part and (held + member.size > _BYTES_AT_ONCE or len(part) >= _AT_ONCE):
            yield part
            part, held = [], 0
        part.append(member)
        held += member.size
    if part:
        yield part


def _refused(rejected: Iterable[RejectedMember], source_key: str) -> list[_Entry]:
    return [
        _Entry(bad.name or "?", source_key, outcome="rejected", message=bad.message)
        for bad in islice(rejected, _MAX_REPORTED)
    ]


def _expansion(
    job: LintingJob, rows: Iterable[LintingTask], contents: _Contents | None = None
) -> Expansion:
    rows = list(rows)
    later = contents.repeated() if contents else frozenset()
    waiting = [row for row in rows if not FileStatus(row.status).has_ended]
    # The largest first, so that the last files to be linted are short ones. What is there twice
    # is linted once: when the second one's turn comes, its result is known.
    waiting.sort(key=lambda row: (row.task_id in later, -(row.size_bytes or 0)))
    rejected = sum(row.outcome == "rejected" for row in rows)
    return Expansion(
        status=JobStatus(job.status),
        task_ids=tuple(row.task_id for row in waiting),
        known={row.task_id: row.result_file_path for row in rows if row.result_file_path},
        files=len(rows) - rejected,
        rejected=rejected,
        ignored=contents.ignored if contents else 0,
    )


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in name)[:_MAX_NAME]
