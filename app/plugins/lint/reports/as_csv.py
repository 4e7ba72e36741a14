"""A job as CSV (RFC 4180), a line for each finding."""

import csv
import io
from collections.abc import AsyncIterator, Iterable

from app.plugins.lint.reports.content import JobContent, ReportedFile

_COLUMNS = ("file", "line", "position", "rule", "name", "level", "description")
# A spreadsheet takes a cell that begins so for a formula, and a formula can send data away.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


async def render(content: JobContent) -> AsyncIterator[str]:
    """Yield the header and the lines of each file."""
    yield _lines([_COLUMNS])
    async for text in content.each(_file):
        yield text


def _file(file: ReportedFile) -> str:
    return _lines(
        (
            _cell(file.name),
            finding.line,
            finding.position,
            _cell(finding.code),
            _cell(finding.name),
            finding.level,
            _cell(finding.description),
        )
        for finding in file.findings
    )


def _lines(rows: Iterable[Iterable[str | int]]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
