"""What the lint counts. Labels are closed sets: outcomes, dialects and rules of the catalogue."""

from collections import Counter as Tally
from collections.abc import Iterable
from functools import lru_cache

from prometheus_client import Counter, Histogram

from app.plugins.lint.catalogue import catalogue

_OTHER = "other"
# What SQLFluff reports beside the violations of rules.
_NO_RULES = frozenset({"PRS", "LXR", "TMP", "NOQA"})

LINT_FILES = Counter(
    "taskyard_lint_files_total",
    "SQL texts and files by how they ended, and whether the result was known already.",
    ["status", "cached"],
)
LINT_FIXES = Counter(
    "taskyard_lint_fixes_total",
    "SQL texts that were to be fixed, by what became of them.",
    ["outcome"],
)
LINT_SECONDS = Histogram(
    "taskyard_lint_seconds",
    "Seconds of one lint in its sandbox.",
    ["dialect"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
LINT_VIOLATIONS = Counter(
    "taskyard_lint_violations_total", "Violations found by lints, by rule.", ["rule"]
)


def count_file(status: str, *, cached: bool = False, files: int = 1) -> None:
    """Count files that have ended."""
    LINT_FILES.labels(status, "yes" if cached else "no").inc(files)


def count_fix(outcome: str) -> None:
    """Count a text that was to be fixed: changed, unchanged, refused or failed."""
    LINT_FIXES.labels(outcome).inc()


def count_lint(dialect: str, seconds: float, codes: Iterable[str]) -> None:
    """Count one lint and the violations that it found."""
    LINT_SECONDS.labels(dialect).observe(seconds)
    for code, found in Tally(codes).items():
        LINT_VIOLATIONS.labels(code if code in _rules() else _OTHER).inc(found)


@lru_cache(maxsize=1)
def _rules() -> frozenset[str]:
    return _NO_RULES | {rule.code for rule in catalogue().rules}
