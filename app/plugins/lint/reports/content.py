"""What a report tells: a job, its files, and what was found in each.

A job may have ten thousand files and gigabytes of results, so nothing here holds more than a page
of rows and one result document at a time. A report that needs totals first reads twice.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from app.db import Databases
from app.plugins.lint import repository
from app.plugins.lint.baselines import NamedFile, baseline_of
from app.plugins.lint.comparing import Mark, compare, marks_of
from app.plugins.lint.judging import lost_marks
from app.plugins.lint.models import BIND, FileStatus, LintingJob, LintingTask
from app.plugins.lint.policies import Policy, Severity
from app.plugins.lint.repository import NamedRow
from app.plugins.lint.wording import description_of
from app.storage import Storage
from app.storage.errors import StorageNotFound

T = TypeVar("T")
_ROWS_AT_ONCE = 200
# Reading a document of this size takes about a millisecond; a longer one is read in a thread.
_SMALL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation, or why a file has no result. Lines and positions count from 1."""

    line: int
    position: int
    end_line: int | None
    end_position: int | None
    code: str
    name: str
    description: str
    level: str  # "error", "warning" or "note", as SARIF calls them
    # Whether it is new since the baseline; None without one.
    is_new: bool | None = None


@dataclass(frozen=True, slots=True)
class ReportedFile:
    """A file of the job; `record` is its result document, None when it has none.

    `findings` are the violations, or why there is no result; `fixed` are those of the baseline
    that are gone, None without a baseline.
    """

    task_id: str
    name: str
    status: FileStatus
    outcome: str
    message: str | None
    record: dict[str, Any] | None
    findings: tuple[Finding, ...]
    fixed: tuple[Finding, ...] | None = None

    @property
    def path(self) -> str:
        """Return the name as a relative path that stays below the place it is put in."""
        return _safe_path(self.name)

    @property
    def violations(self) -> list[dict[str, Any]]:
        """Return SQLFluff's records."""
        return self.record["violations"] if self.record else []

    def fingerprinted(self) -> Iterator[tuple[Finding, str]]:
        """Yield each finding with a text that stays the same when lines move."""
        yield from fingerprinted(self.path, self.findings)


@dataclass(frozen=True, slots=True)
class GoneFile:
    """A file of the baseline that is not there any more, and what had been found in it."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def path(self) -> str:
        """Return the name as a relative path that stays below the place it is put in."""
        return _safe_path(self.name)


def fingerprinted(path: str, findings: Iterable[Finding]) -> Iterator[tuple[Finding, str]]:
    """Yield each finding of a file with a text that stays the same when lines move."""
    seen: Counter[tuple[str, str]] = Counter()
    for finding in findings:
        kind = (finding.code, finding.description)
        text = "\0".join([path, *kind, str(seen[kind])])
        seen[kind] += 1
        yield finding, hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class JobContent:
    """An ended job, whose files can be gone through again and again.

    With a baseline, the files of that earlier job are read beside them.
    """

    job: LintingJob
    databases: Databases
    storage: Storage
    baseline_job_id: str | None = None

    @property
    def policy(self) -> Policy:
        """Return what the findings weigh."""
        return Policy.from_json(self.job.options or {})

    async def each(self, use: Callable[[ReportedFile], T]) -> AsyncIterator[T]:
        """Yield what the function makes of each file, in the order of the archive."""
        policy, partners = self.policy, (await self._partners())[0]
        async for row in self._rows():
            data = await self._read(row.result_file_path)
            then = await self._earlier(partners.get(row.task_id))
            made = partial(_apply, use, row, data, then, policy)
            size = len(data or b"") + len(then.data or b"" if then else b"")
            yield await asyncio.to_thread(made) if size > _SMALL_BYTES else made()

    async def gone(self) -> AsyncIterator[GoneFile]:
        """Yield each file of the baseline that the job does not have."""
        policy, (partners, rows) = self.policy, await self._partners()
        taken = {row.task_id for row in partners.values()}
        for row in rows:
            if row.task_id not in taken:
                data = await self._read(row.result_file_path)
                record = None if data is None else json.loads(data)
                found = _findings(record, row.outcome or "fault", None, policy)
                yield GoneFile(row.name, tuple(found))

    async def _partners(self) -> tuple[Mapping[str, NamedRow], Sequence[NamedRow]]:
        """Return the earlier row of each file that was there before, and all earlier rows."""
        if self.baseline_job_id is None:
            return {}, []
        async with self.databases.reading(BIND) as session:
            before = await session.run_sync(repository.named_files, self.baseline_job_id)
            after = await session.run_sync(repository.named_files, self.job.job_id)
        by_id = {row.task_id: row for row in before}
        pairs = baseline_of(before, [NamedFile(row.task_id, row.name) for row in after]).earlier
        return {mine: by_id[theirs] for mine, theirs in pairs.items()}, before

    async def _earlier(self, row: NamedRow | None) -> "_Earlier | None":
        if self.baseline_job_id is None:
            return None
        if row is None:
            return _Earlier()
        return _Earlier(row.outcome, await self._read(row.result_file_path))

    async def _rows(self) -> AsyncIterator[LintingTask]:
        after = 0
        while True:
            async with self.databases.reading(BIND) as session:
                rows = await session.run_sync(
                    repository.tasks_after, self.job.job_id, after, _ROWS_AT_ONCE
                )
            for row in rows:
                yield row
            if len(rows) < _ROWS_AT_ONCE:
                return
            after = rows[-1].id

    async def _read(self, key: str | None) -> bytes | None:
        if key is None:
            return None
        try:
            return await self.storage.get(key)
        except StorageNotFound:
            return None


@dataclass(frozen=True, slots=True)
class _Earlier:
    """How the same file ended before, nothing for a new one."""

    outcome: str | None = None
    data: bytes | None = None

    def found(self, policy: Policy) -> tuple[list[Finding], list[Mark]]:
        """Return what was found then, and the marks of it."""
        if self.data is not None:
            record = json.loads(self.data)
            return _findings(record, "", None, policy), marks_of(record)
        if self.outcome in {None, "linted", "unparsable"}:
            return [], []  # It is a new file, or its document is gone.
        return _findings(None, self.outcome or "", None, policy), lost_marks(self.outcome or "")


def _apply(
    use: Callable[[ReportedFile], T],
    row: LintingTask,
    data: bytes | None,
    then: _Earlier | None,
    policy: Policy,
) -> T:
    lost = row.result_file_path is not None and data is None
    record = None if data is None else json.loads(data)
    outcome = "missing" if lost else row.outcome or "fault"
    message = "The result is no longer on the storage." if lost else row.error_message
    found = _findings(record, outcome, message, policy)
    fixed = None
    if then is not None:
        before, marks = then.found(policy)
        now = lost_marks(outcome) if record is None else marks_of(record)
        compared = compare(marks, now)
        fixed = tuple(before[place] for place in compared.gone)
        known = zip(found, compared.is_new, strict=True)
        found = [replace(finding, is_new=is_new) for finding, is_new in known]
    return use(
        ReportedFile(
            task_id=row.task_id,
            name=row.file_name or row.source_file_path.rsplit("/", 1)[-1],
            status=FileStatus(row.status),
            outcome=outcome,
            message=message,
            record=record,
            findings=tuple(found),
            fixed=fixed,
        )
    )


def _findings(
    record: dict[str, Any] | None, outcome: str, message: str | None, policy: Policy
) -> list[Finding]:
    if record is None:
        told = message or "The file was not linted."
        return [Finding(1, 1, None, None, outcome, "", told, Severity.ERROR.value)]
    return [_finding(violation, policy) for violation in record["violations"]]


def _finding(violation: dict[str, Any], policy: Policy) -> Finding:
    code = str(violation["code"])
    return Finding(
        line=max(1, violation["start_line_no"]),
        position=max(1, violation["start_line_pos"]),
        end_line=violation.get("end_line_no"),
        end_position=violation.get("end_line_pos"),
        code=code,
        name=str(violation.get("name") or ""),
        description=description_of(violation),
        level=policy.severity(code, only_warned=violation["warning"]).value,
    )


def _safe_path(name: str) -> str:
    parts = [part for part in name.split("/") if part not in {"", ".", ".."}]
    return "/".join(parts) or "unnamed"
