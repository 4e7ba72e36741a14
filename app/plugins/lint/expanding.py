"""What `lint.expand_zip_and_dispatch_tasks` does: one archive into one row for each SQL file.

Members are read in memory, a few at a time, and written under names of our own; nothing is
unpacked to a folder. The rows are inserted in one transaction, so a second attempt either
finds all of them, with the ids that the first one chose, or none. Files whose result is known
are finished here; after a crash in the middle of that, the others find it in their own runs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from sqlalchemy import select

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.plugins.lint import repository
from app.plugins.lint.baselines import Baseline, EarlierFindings, NamedFile, baseline_of
from app.plugins.lint.caching import KnownLints
from app.plugins.lint.entries import (
    AT_ONCE,
    Contents,
    Entry,
    in_parts,
    printable,
    rejected_entries,
)
from app.plugins.lint.judging import head_of, judge
from app.plugins.lint.keys import member_key, result_key
from app.plugins.lint.linting import document_of, report_of
from app.plugins.lint.metrics import count_file
from app.plugins.lint.models import BIND, FileStatus, JobStatus, LintingJob, LintingTask
from app.plugins.lint.options import LintOptions, options_of
from app.plugins.lint.processing import outcome_of
from app.plugins.lint.repository import FileOutcome
from app.plugins.lint.settings import LintSettings
from app.storage import SyncStorage
from app.storage.errors import StorageNotFound
from app.storage.safe_zip import (
    ArchiveRefused,
    ArchiveReport,
    Member,
    ZipLimits,
    read_archive,
)
from app.tasks.models import TaskRun

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
    options: LintOptions
    baseline_job_id: str | None


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
            return self._without_started(begun)
        try:
            contents = self._read(job_id, begun)
        except ArchiveRefused as error:
            contents = Contents(rejected_entries(error.rejected, begun.source_key), error.detail)
        except StorageNotFound:
            contents = Contents([], f"There is no file '{begun.source_key}' on the storage.")
        baseline = self._find_baseline(begun.baseline_job_id, contents.entries)
        if self._insert(job_id, contents, begun.options, baseline):
            self._finish_known(job_id, contents.entries, begun.options, baseline)
        return self._look(job_id, contents)

    def fail(self, job_id: str, message: str) -> Expansion:
        """End the job as FAILED with a message for the person who submitted it."""
        with self.databases.sync_transaction(BIND) as session:
            job = repository.lock_job(session, job_id)
            if job is None:
                raise JobNotKnownError(job_id)
            if not JobStatus(job.status).has_ended:
                job.status, job.passed = JobStatus.FAILED, False
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
            options = options_of(job, self.settings)
            return _Begun(job.source_path, options, job.baseline_job_id)

    def _without_started(self, earlier: Expansion) -> Expansion:
        """Return what an earlier attempt left without the files that have their runs.

        They have when the task is run again by hand, and not after a crash: an attempt's children
        are there only when it has succeeded.
        """
        started: set[str] = set()
        waiting = iter([*earlier.task_ids, *earlier.known])
        with self.databases.sync_autocommit(APPLICATION_BIND) as connection:
            while some := list(islice(waiting, AT_ONCE)):
                statement = select(TaskRun.id).where(TaskRun.id.in_(some))
                started |= set(connection.execute(statement).scalars())
        return replace(
            earlier,
            task_ids=tuple(one for one in earlier.task_ids if one not in started),
            known={one: key for one, key in earlier.known.items() if one not in started},
        )

    def _read(self, job_id: str, begun: _Begun) -> Contents:
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

    def _take(self, job_id: str, begun: _Begun, report: ArchiveReport) -> Contents:
        members = [m for m in report.members if m.name.lower().endswith(".sql")]
        entries: list[Entry] = []
        for some in in_parts(members):
            entries += self._store(job_id, len(entries) + 1, some, begun)
            self.progress(len(entries), len(members))
        entries += rejected_entries(report.rejected, begun.source_key)
        ignored = len(report.members) + len(report.skipped) - len(members)
        if members:
            return Contents(entries, None, ignored)
        return Contents(entries, "The archive holds no .sql file that can be linted.", ignored)

    def _store(self, job_id: str, first: int, members: list[Member], begun: _Begun) -> list[Entry]:
        """Write some members to the storage; return their rows, numbered from `first`."""
        limit = self.settings.max_member_bytes
        entries, files = [], []
        for number, member in enumerate(members, start=first):
            if member.size > limit:
                message = f"The file has {member.size} bytes; at most {limit} are linted."
                too_large = (begun.source_key, member.size, "too_large", message)
                entries.append(Entry(member.name, *too_large))
                continue
            data, key = member.read(), member_key(job_id, number, member.name)
            lint_key = self.known_lints.key(data, begun.options.profile)
            files.append((key, data))
            entries.append(Entry(member.name, key, member.size, lint_key=lint_key))
        self.storage.put_many(files)
        return entries

    def _find_baseline(self, job_id: str | None, entries: Iterable[Entry]) -> Baseline:
        if job_id is None:
            return Baseline()
        with self.databases.sync_transaction(BIND) as session:
            rows = repository.named_files(session, job_id)
        files = [NamedFile(entry.task_id, printable(entry.name)) for entry in entries]
        return baseline_of(rows, files, EarlierFindings(self.databases, self.storage))

    def _insert(
        self, job_id: str, contents: Contents, options: LintOptions, baseline: Baseline
    ) -> bool:
        """Insert the rows; return False when another attempt has inserted its own, and when the
        job was cancelled while the archive was read.
        """
        rows = [entry.to_row(job_id, options.policy, baseline) for entry in contents.entries]
        with self.databases.sync_transaction(BIND) as session:
            job = repository.lock_job(session, job_id)
            if job is None:
                raise JobNotKnownError(job_id)
            if JobStatus(job.status).has_ended or repository.tasks_of(session, job_id):
                return False
            repository.insert_tasks(session, rows)
            job.error_message = contents.message
            job.options = baseline.told_in(job.options)
            repository.derive_job_status(session, job)
        for entry in contents.entries:
            if entry.outcome is not None:
                count_file(entry.outcome)
        return True

    def _finish_known(
        self, job_id: str, entries: Iterable[Entry], options: LintOptions, baseline: Baseline
    ) -> None:
        """Write the documents of files that were linted before, and record them."""
        waiting = iter([(entry, entry.lint_key) for entry in entries if entry.lint_key])
        while some := list(islice(waiting, AT_ONCE)):
            found = self.known_lints.find([key for _, key in some])
            ends: dict[str, FileOutcome] = {}
            documents: list[tuple[str, bytes]] = []
            for entry, key in some:
                if key in found:
                    report = report_of(found[key], printable(entry.name))
                    verdict = judge(report, options.policy, baseline.marks_of(entry.task_id))
                    place = result_key(job_id, entry.task_id)
                    head = head_of(report.file_name, options, verdict)
                    documents.append((place, document_of(found[key], head)))
                    ends[entry.task_id] = outcome_of(report, place, verdict)
            self.storage.put_many(documents)
            with self.databases.sync_transaction(BIND) as session:
                job = repository.lock_job(session, job_id)
                if job is None:
                    raise JobNotKnownError(job_id)
                for task_id in repository.record_outcomes(session, job, ends):
                    count_file(ends[task_id].outcome, cached=True)

    def _look(self, job_id: str, contents: Contents) -> Expansion:
        with self.databases.sync_transaction(BIND) as session:
            job = repository.lock_job(session, job_id)
            if job is None:
                raise JobNotKnownError(job_id)
            return _expansion(job, repository.tasks_of(session, job_id), contents)


def _expansion(
    job: LintingJob, rows: Iterable[LintingTask], contents: Contents | None = None
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
