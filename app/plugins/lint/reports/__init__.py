"""The forms of a job's report, by the name that `format` says."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from app.plugins.lint.reports import (
    as_annotations,
    as_csv,
    as_html,
    as_json,
    as_sarif,
    html_summary,
)
from app.plugins.lint.reports.content import JobContent

__all__ = ["FORMS", "Form", "JobContent", "ReportFormat", "encoded"]


class ReportFormat(StrEnum):
    """The names of the forms."""

    JSON = "json"
    SARIF = "sarif"
    CSV = "csv"
    HTML = "html"
    GITHUB = "github"
    GITLAB = "gitlab"


@dataclass(frozen=True, slots=True)
class Form:
    """How a report is made, what it is called, and what a browser may do with it."""

    render: Callable[[JobContent], AsyncIterator[str]]
    media_type: str
    file_name: str
    disposition: str = "attachment"
    headers: Mapping[str, str] = field(default_factory=dict)

    def content_disposition(self, job_id: str) -> str:
        """Return the header for the report of a job; ids of jobs are plain letters."""
        return f'{self.disposition}; filename="{job_id}{self.file_name}"'


# A page to look at: nothing in it runs, and it reaches nothing, whatever a file is called.
_PAGE = {"Content-Security-Policy": f"{html_summary.POLICY}; frame-ancestors 'none'; sandbox"}
FORMS: Mapping[ReportFormat, Form] = {
    ReportFormat.JSON: Form(as_json.render, "application/json", ".json"),
    ReportFormat.SARIF: Form(as_sarif.render, "application/sarif+json", ".sarif"),
    ReportFormat.CSV: Form(as_csv.render, "text/csv; charset=utf-8; header=present", ".csv"),
    ReportFormat.HTML: Form(as_html.render, "text/html; charset=utf-8", ".html", "inline", _PAGE),
    ReportFormat.GITHUB: Form(
        as_annotations.render_github, "text/plain; charset=utf-8", "-annotations.txt"
    ),
    ReportFormat.GITLAB: Form(
        as_annotations.render_gitlab, "application/json", "-codequality.json"
    ),
}


async def encoded(texts: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """Yield the texts as UTF-8; a lone surrogate, which no encoding knows, is written out."""
    async for text in texts:
        if text:
            yield text.encode("utf-8", "backslashreplace")
