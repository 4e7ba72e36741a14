"""A job as one HTML page to look at: no script, nothing loaded, every word of a file escaped."""

from collections.abc import AsyncIterator
from html import escape
from importlib.resources import files

from app.plugins.lint.catalogue import catalogue
from app.plugins.lint.models import FileStatus
from app.plugins.lint.reports.content import Finding, GoneFile, JobContent, ReportedFile
from app.plugins.lint.reports.tally import Tally

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_MOST_SHOWN = 200
_VERDICTS = {
    "COMPLETED": "Every file was linted.",
    "PARTIALLY_COMPLETED": "Some files could not be linted.",
    "FAILED": "No file could be linted.",
}


async def render(content: JobContent) -> AsyncIterator[str]:
    """Yield the page: figures, rules, the worst files, then each file folded up.

    The files are read twice, first for the figures at the top.
    """
    tally = Tally()
    async for _ in content.each(tally.add):
        pass
    gone = [file async for file in content.gone()]
    tally.fixed += sum(len(file.findings) for file in gone)
    yield _head(content, tally)
    yield _rules(tally)
    yield _worst(tally)
    yield "<section><h2>Files</h2>\n"
    async for text in content.each(_file):
        yield text
    for file in gone:
        yield _gone(file)
    yield "</section></main></body></html>\n"


def _head(content: JobContent, tally: Tally) -> str:
    job = content.job
    style = files(__package__).joinpath("report.css").read_text("utf-8")
    message = f'<p class="message">{escape(job.error_message)}</p>' if job.error_message else ""
    passed = tally.passed(content)
    kind, word = ("good", "passed") if passed else ("bad", "not passed")
    badge = f'<span class="badge {kind}">{word}</span>'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>SQL lint report {escape(job.job_id)}</title><style>{style}</style></head>"
        f"<body><main><header><h1>SQL lint report {badge}</h1>"
        f'<p class="verdict {job.status.lower()}">'
        f"{_VERDICTS.get(job.status, escape(job.status))}</p>"
        f'<p class="about"><code>{escape(job.job_id)}</code> · {_about(content)}</p>{message}'
        f'<dl class="figures">{_figures(content, tally)}</dl></header>\n'
    )


def _about(content: JobContent) -> str:
    job = content.job
    told = [
        f"dialect {escape(job.dialect or '')}",
        f"{job.created_at:%Y-%m-%d %H:%M} UTC",
        f"SQLFluff {escape(catalogue().sqlfluff_version)}",
        f"fails on {content.policy.fail_on}",
    ]
    if job.profile_name is not None:
        told.insert(1, f"profile {escape(job.profile_name)}")
    if content.baseline_job_id is not None:
        told.append(f"compared with <code>{escape(content.baseline_job_id)}</code>")
    return " · ".join(told)


def _figures(content: JobContent, tally: Tally) -> str:
    figures = [
        ("files", tally.files, ""),
        ("violations", tally.violations, ""),
        ("without a violation", tally.clean, "good"),
        ("failed", tally.failed, "bad" if tally.failed else "good"),
    ]
    if content.baseline_job_id is not None:
        changes = tally.comparison()
        figures += [
            ("new", changes["new"], "bad" if changes["new"] else "good"),
            ("fixed", changes["fixed"], "good"),
            ("unchanged", changes["unchanged"], ""),
        ]
    return "".join(
        f'<div class="figure {kind}"><dt>{label}</dt><dd>{number:,}</dd></div>'
        for label, number, kind in figures
    )


def _rules(tally: Tally) -> str:
    if not tally.by_rule:
        return ""
    known = {rule.code: rule for rule in catalogue().rules}
    most = max(tally.by_rule.values())
    rows = []
    for code, count in sorted(tally.by_rule.items(), key=lambda item: (-item[1], item[0])):
        rule = known.get(code)
        name, text = (rule.name, rule.description) if rule else ("", "The SQL could not be parsed.")
        rows.append(
            f'<tr><td><code>{escape(code)}</code></td><td class="rule">{escape(name)}'
            f"<small>{escape(text)}</small></td>"
            f'<td class="number">{count:,}</td><td class="share">'
            f'<span class="bar" style="width:{100 * count / most:.1f}%"></span></td></tr>'
        )
    head = (
        '<tr><th>Rule</th><th></th><th class="number">Violations</th><th class="share"></th></tr>'
    )
    return f"<section><h2>By rule</h2><table>{head}{''.join(rows)}</table></section>\n"


def _worst(tally: Tally) -> str:
    if len(tally.worst) < 2:
        return ""
    rows = "".join(
        f'<tr><td class="name"><a href="#{escape(task_id)}">{escape(name)}</a></td>'
        f'<td class="number">{found:,}</td></tr>'
        for task_id, name, found in tally.worst
    )
    head = '<tr><th>File</th><th class="number">Violations</th></tr>'
    return f"<section><h2>Most violations</h2><table>{head}{rows}</table></section>\n"


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
    rows = "".join(_row(finding) for finding in shown)
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


def _row(finding: Finding) -> str:
    mark = '<span class="new">new</span> ' if finding.is_new else ""
    level = finding.level if finding.level != "warning" else ""
    about = " · ".join(filter(None, [level, finding.name]))
    return (
        f'<tr class="{finding.level}"><td class="place">{finding.line}:{finding.position}</td>'
        f"<td><code>{escape(finding.code)}</code></td>"
        f"<td>{mark}{escape(finding.description)}<small>{escape(about)}</small></td></tr>"
    )
