"""The figures of a report, counted while its files go by."""

from collections import Counter
from dataclasses import dataclass, field
from heapq import heappush, heappushpop

from app.plugins.lint.models import FileStatus
from app.plugins.lint.policies import Counts, Severity
from app.plugins.lint.reports.content import Finding, JobContent, ReportedFile

_MOST_SHOWN = 10
_MOST_FRESH = 100


@dataclass(slots=True)
class Tally:
    """Counts of files and violations; `worst` holds the files with most violations, `fresh` the
    first of the new findings.
    """

    files: int = 0
    failed: int = 0
    clean: int = 0
    violations: int = 0
    by_rule: Counter[str] = field(default_factory=Counter)
    by_level: Counter[str] = field(default_factory=Counter)
    new: int = 0
    new_by_level: Counter[str] = field(default_factory=Counter)
    fixed: int = 0
    fresh: list[tuple[str, str, Finding]] = field(default_factory=list)
    _worst: list[tuple[int, int, str, str]] = field(default_factory=list)

    def add(self, file: ReportedFile) -> None:
        """Count a file."""
        found = len(file.violations)
        self.files += 1
        self.failed += file.status is FileStatus.FAILURE
        self.clean += file.status is FileStatus.SUCCESS and not found
        self.violations += found
        self.by_level.update(finding.level for finding in file.findings)
        self.by_rule.update(str(violation["code"]) for violation in file.violations)
        fresh = [finding for finding in file.findings if finding.is_new]
        self.new += len(fresh)
        room = _MOST_FRESH - len(self.fresh)
        self.fresh += [(file.task_id, file.name, finding) for finding in fresh[:room]]
        self.new_by_level.update(finding.level for finding in fresh)
        self.fixed += len(file.fixed or ())
        if found:
            push = heappush if len(self._worst) < _MOST_SHOWN else heappushpop
            push(self._worst, (found, -self.files, file.task_id, file.name))

    @property
    def worst(self) -> list[tuple[str, str, int]]:
        """Return id, name and number of violations of up to ten files, the worst first."""
        ranked = sorted(self._worst, reverse=True)
        return [(task_id, name, found) for found, _, task_id, name in ranked]

    @property
    def findings(self) -> int:
        """Return the number of violations, and of files without a result."""
        return self.by_level.total()

    def passed(self, content: JobContent) -> bool:
        """Return whether the job has passed, judged by what is new when there is a baseline."""
        job = content.job
        if job.passed is not None and job.baseline_job_id == content.baseline_job_id:
            return job.passed
        counted = self.by_level if content.baseline_job_id is None else self.new_by_level
        counts = Counts(*(counted[severity] for severity in Severity))
        return content.policy.passes(counts) and not job.error_message

    def comparison(self) -> dict[str, int]:
        """Return the numbers of findings since the baseline."""
        return {"new": self.new, "fixed": self.fixed, "unchanged": self.findings - self.new}

    def to_json(self) -> dict[str, object]:
        """Return the figures as JSON types; rules by code."""
        return {
            "files": self.files,
            "failed": self.failed,
            "clean": self.clean,
            "violations": self.violations,
            "by_level": {level: self.by_level[level] for level in ("error", "warning", "note")},
            "by_rule": dict(sorted(self.by_rule.items())),
        }
