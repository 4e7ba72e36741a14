"""Whether a file has passed: its findings weighed by the policy, all or those that are new."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.plugins.lint.comparing import Mark, compare, marks_of
from app.plugins.lint.linting import FileReport
from app.plugins.lint.options import LintOptions
from app.plugins.lint.policies import Counts, Policy, tally_of

_LOST = Counts(error=1)
VERDICT_COLUMNS = (
    "passed",
    *("error_count", "warning_count", "note_count"),
    *("new_count", "fixed_count"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`counts` are of all findings; `new` and `fixed` are None without a baseline."""

    passed: bool
    counts: Counts
    new: int | None = None
    fixed: int | None = None

    def to_columns(self) -> dict[str, Any]:
        """Return what a file's row keeps."""
        values = (self.passed, *self.counts, self.new, self.fixed)
        return dict(zip(VERDICT_COLUMNS, values, strict=True))


def judge(report: FileReport, policy: Policy, earlier: Sequence[Mark] | None = None) -> Verdict:
    """Return the verdict on a file; with the marks of its baseline only new findings weigh.

    A file without a result has one finding, an error under the name of its outcome.
    """
    counts = policy.count(report.known.tally) if report.known else _LOST
    if earlier is None:
        return Verdict(policy.passes(counts), counts)
    if report.known is None:
        compared = compare(earlier, lost_marks(report.outcome))
        new = _LOST if any(compared.is_new) else Counts()
    else:
        record = json.loads(report.known.body)
        compared = compare(earlier, marks_of(record))
        shown = zip(record["violations"], compared.is_new, strict=True)
        new = policy.count(tally_of(one for one, is_new in shown if is_new))
    return Verdict(policy.passes(new), counts, sum(compared.is_new), len(compared.gone))


def lost_marks(outcome: str) -> list[Mark]:
    """Return the marks of a file that has no result."""
    return [Mark(outcome, "", "")]


def head_of(file_name: str, options: LintOptions, verdict: Verdict) -> dict[str, Any]:
    """Return the first fields of a document: the name and what was made of the findings."""
    head = {
        "file_name": file_name,
        "passed": verdict.passed,
        "fail_on": options.policy.fail_on.value,
        "counts": verdict.counts._asdict(),
        "profile_name": options.profile_name,
        "profile_version": options.profile_version,
    }
    if verdict.new is not None:
        head |= {"new": verdict.new, "fixed": verdict.fixed}
    return head
