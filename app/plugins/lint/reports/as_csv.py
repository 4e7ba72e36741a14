"""A job as CSV (RFC 4180), a line for each finding."""

import csv
import io
from collections.abc import AsyncIterator, Iterable

from app.plugins.lint.reports.content import Finding, JobContent, ReportedFile

_COLUMNS = ("file", "line", "position", "rule", "name", "level", "description")
# A spreadsheet takes a cell that begins so for a formula, and a formula can send data away.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


async def render(content: JobContent) -> AsyncIterator[str]:
    """Yield the header and the lines of each file; with a baseline, what is fixed has lines, too.

    Those have the places of then.
    """
    has_baseline = content.baseline_job_id is not None
    yield _lines([(*_COLUMNS, "state") if has_baseline else _COLUMNS])
    async for text in content.each(_file):
        yield text
    async for gone in content.gone():
        yield _lines(_row(gone.name, finding, "fixed") for finding in gone.findings)


def _file(file: ReportedFile) -> str:
    states = {None: None, True: "new", False: "unchanged"}
    found = [_row(file.name, finding, states[finding.is_new]) for finding in file.findings]
    return _lines([*found, *(_row(file.name, finding, "fixed") for finding in file.fixed or ())])


def _row(name: str, finding: Finding, state: str | None) -> tuple[str | int, ...]:
    row = (
        _cell(name),
        finding.line,
        finding.position,
        _cell(finding.code),
        _cell(finding.name),
        finding.level,
        _cell(finding.description),
    )
    return row if state is None else (*row, state)


def _lines(rows: Iterable[Iterable[str | int]]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
