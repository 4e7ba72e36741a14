"""The rows to be of an archive: its members that wait for their lint, and what was refused."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from app.common.clock import utc_now
from app.common.ids import new_id
from app.plugins.lint.baselines import Baseline
from app.plugins.lint.judging import VERDICT_COLUMNS, judge
from app.plugins.lint.linting import FileReport
from app.plugins.lint.models import FileStatus
from app.plugins.lint.policies import Policy
from app.storage.safe_zip import Member, RejectedMember

# So many files, or bytes of sources, are in memory at a time.
AT_ONCE = 100
_BYTES_AT_ONCE = 4 * 1024 * 1024
_MAX_REPORTED = 1000
_MAX_NAME = 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One row to be: a member that waits for its lint, or one that was refused."""

    name: str
    source_key: str
    size: int | None = None
    outcome: str | None = None
    message: str | None = None
    # What the result of this content is known by; None for a file that will have no result.
    lint_key: str | None = None
    task_id: str = field(default_factory=new_id)

    def to_row(self, job_id: str, policy: Policy, baseline: Baseline) -> dict[str, Any]:
        """Return the columns of the file's row; a file that was refused is judged already."""
        now = utc_now()
        verdict = None
        if self.outcome:
            report = FileReport(outcome=self.outcome)
            verdict = judge(report, policy, baseline.marks_of(self.task_id))
        return {
            "task_id": self.task_id,
            "job_id": job_id,
            "status": FileStatus.FAILURE if self.outcome else FileStatus.PENDING,
            "source_file_path": self.source_key,
            "file_name": printable(self.name),
            "size_bytes": self.size,
            "outcome": self.outcome,
            "error_message": self.message,
            "created_at": now,
            "updated_at": now,
            "baseline_task_id": baseline.task_id_of(self.task_id),
            **(verdict.to_columns() if verdict else dict.fromkeys(VERDICT_COLUMNS)),
        }


@dataclass(frozen=True, slots=True)
class Contents:
    """The rows to be, and a message when there is nothing to lint among them."""

    entries: list[Entry] = field(default_factory=list)
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


def in_parts(members: Iterable[Member]) -> Iterator[list[Member]]:
    """Yield the members, as many at a time as may be in memory together."""
    part: list[Member] = []
    held = 0
    for member in members:
        if part and (held + member.size > _BYTES_AT_ONCE or len(part) >= AT_ONCE):
            yield part
            part, held = [], 0
        part.append(member)
        held += member.size
    if part:
        yield part


def rejected_entries(rejected: Iterable[RejectedMember], source_key: str) -> list[Entry]:
    """Return the rows of refused members, which tell why; of very many only the first."""
    return [
        Entry(bad.name or "?", source_key, outcome="rejected", message=bad.message)
        for bad in islice(rejected, _MAX_REPORTED)
    ]


def printable(name: str) -> str:
    """Return a member's name as it is shown: without what acts on a terminal, and not endless."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name)[:_MAX_NAME]
