"""A job as one HTML page to look at: no script, nothing loaded, every word of a file escaped."""

from collections.abc import AsyncIterator
from html import escape

from app.plugins.lint.models import FileStatus
from app.plugins.lint.reports.content import GoneFile, JobContent, ReportedFile
from app.plugins.lint.reports.html_summary import finding_row, head, summary
from app.plugins.lint.reports.tally import Tally

_MOST_SHOWN = 200


async def render(content: JobContent) -> AsyncIterator[str]:
    """Yield the page: figures, what is new, rules, the worst files, then each file folded up.

    The files are read twice, first for the figures at the top.
    """
    tally = Tally()
    async for _ in content.each(tally.add):
        pass
    async for file in content.gone():
        tally.fixed += len(file.findings)
    yield head(content, tally)
    yield summary(content, tally)
    yield "<section><h2>Files</h2>\n"
    async for text in content.each(_file):
        yield text
    async for file in content.gone():
        yield _gone(file)
    yield "</section></main></body></html>\n"


def _file(file: ReportedFile) -> str:
    found = len(file.violations)
    failed = file.status is FileStatus.FAILURE
    kind = "bad" if failed else "some" if found else "good"
    told = _outcome(file) if failed else f"{found:,}" if found else "clean"
    fresh = sum(finding.is_new is True for finding in file.findings)
    told += f" · {fresh:,} new" if fresh else ""
    told += f" · {len(file.fixed):,} fixed" if file.fixed else ""
    name = f'<span class="name">{escape(file.name)}</span>'
    summary = f'{name}<span class="count {kind}">{escape(told)}</span>'
    anchor = escape(file.task_id)
    # A file with a result has its message among the violations.
    told_why = "" if file.record else file.findings[0].description
    message = f'<p class="message">{escape(told_why)}</p>' if told_why else ""
    if not (message or found):
        return f'<div class="file" id="{anchor}">{summary}</div>\n'
    shown = file.findings[:_MOST_SHOWN] if file.record else []
    rows = "".join(finding_row(finding) for finding in shown)
    more = f'<p class="message">{found - len(shown):,} more are not shown here.</p>'
    return (
        f'<details class="file" id="{anchor}"><summary>{summary}</summary>{message}'
        f"<table>{rows}</table>{more if found > len(shown) else ''}</details>\n"
    )


def _gone(file: GoneFile) -> str:
    name = f'<span class="name">{escape(file.name)}</span>'
    return f'<div class="file">{name}<span class="count good">gone</span></div>\n'


def _outcome(file: ReportedFile) -> str:
    return file.outcome.replace("_", " ")
