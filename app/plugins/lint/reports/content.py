"""What a report tells: a job, its files, and what was found in each.

A job may have ten thousand files and gigabytes of results, so nothing here holds more than a page
of rows and one result document at a time. A report that needs totals first reads twice.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from app.db import Databases
from app.plugins.lint import repository
from app.plugins.lint.models import FileStatus, LintingJob, LintingTask
from app.plugins.lint.processing import BIND
from app.plugins.lint.wording import SYNTAX_CODES, description_of
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


@dataclass(frozen=True, slots=True)
class ReportedFile:
    """A file of the job; `record` is its result document, None when it has none."""

    task_id: str
    name: str
    status: FileStatus
    outcome: str
    message: str | None
    record: dict[str, Any] | None

    @property
    def path(self) -> str:
        """Return the name as a relative path that stays below the place it is put in."""
        parts = [part for part in self.name.split("/") if part not in {"", ".", ".."}]
        return "/".join(parts) or "unnamed"

    @property
    def violations(self) -> list[dict[str, Any]]:
        """Return SQLFluff's records."""
        return self.record["violations"] if self.record else []

    @property
    def findings(self) -> list[Finding]:
        """Return the violations; a file without a result has one finding, which tells why."""
        if self.record is None:
            message = self.message or "The file was not linted."
            return [Finding(1, 1, None, None, self.outcome, "", message, "error")]
        return [_finding(violation) for violation in self.violations]

    def fingerprinted(self) -> Iterator[tuple[Finding, str]]:
        """Yield each finding with a text that stays the same when lines move."""
        seen: Counter[tuple[str, str]] = Counter()
        for finding in self.findings:
            kind = (finding.code, finding.description)
            text = "\0".join([self.path, *kind, str(seen[kind])])
            seen[kind] += 1
            yield finding, hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class JobContent:
    """An ended job, whose files can be gone through again and again."""

    job: LintingJob
    databases: Databases
    storage: Storage

    async def each(self, use: Callable[[ReportedFile], T]) -> AsyncIterator[T]:
        """Yield what the function makes of each file, in the order of the archive."""
        async for row in self._rows():
            data = await self._document(row)
            if data is not None and len(data) > _SMALL_BYTES:
                yield await asyncio.to_thread(_apply, use, row, data)
            else:
                yield _apply(use, row, data)

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

    async def _document(self, row: LintingTask) -> bytes | None:
        if row.result_file_path is None:
            return None
        try:
            return await self.storage.get(row.result_file_path)
        except StorageNotFound:
            return None


def _apply(use: Callable[[ReportedFile], T], row: LintingTask, data: bytes | None) -> T:
    return use(_reported(row, data))


def _reported(row: LintingTask, data: bytes | None) -> ReportedFile:
    lost = row.result_file_path is not None and data is None
    return ReportedFile(
        task_id=row.task_id,
        name=row.file_name or row.source_file_path.rsplit("/", 1)[-1],
        status=FileStatus(row.status),
        outcome="missing" if lost else row.outcome or "fault",
        message="The result is no longer on the storage." if lost else row.error_message,
        record=None if data is None else json.loads(data),
    )


def _finding(violation: dict[str, Any]) -> Finding:
    code = str(violation["code"])
    level = "error" if code in SYNTAX_CODES else "note" if violation["warning"] else "warning"
    return Finding(
        line=max(1, violation["start_line_no"]),
        position=max(1, violation["start_line_pos"]),
        end_line=violation.get("end_line_no"),
        end_position=violation.get("end_line_pos"),
        code=code,
        name=str(violation.get("name") or ""),
        description=description_of(violation),
        level=level,
    )
