"""The upper part of the HTML page: the verdict, the figures, what is new, the rules."""

from collections.abc import Iterable
from html import escape
from importlib.resources import files

from app.plugins.lint.catalogue import catalogue
from app.plugins.lint.policies import Severity
from app.plugins.lint.reports.content import Finding, JobContent
from app.plugins.lint.reports.tally import Tally

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_VERDICTS = {
    "COMPLETED": "Every file was linted.",
    "PARTIALLY_COMPLETED": "Some files could not be linted.",
    "FAILED": "No file could be linted.",
}
# The others are folded up.
_RULES_SHOWN = 10
Figure = tuple[str, int, str]


def head(content: JobContent, tally: Tally) -> str:
    """Return the page's beginning, with the verdict and the figures."""
    job = content.job
    style = files(__package__).joinpath("report.css").read_text("utf-8")
    message = f'<p class="message">{escape(job.error_message)}</p>' if job.error_message else ""
    kind, word = ("good", "passed") if tally.passed(content) else ("bad", "not passed")
    figures = "".join(_figures(row) for row in _rows_of_figures(content, tally))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>SQL lint report {escape(job.job_id)}</title><style>{style}</style></head>"
        f'<body><main><header><h1>SQL lint report <span class="badge {kind}">{word}</span></h1>'
        f'<p class="verdict {job.status.lower()}">'
        f"{_VERDICTS.get(job.status, escape(job.status))}</p>"
        f'<p class="about"><code>{escape(job.job_id)}</code> · {_about(content)}</p>{message}'
        f"{figures}</header>\n"
    )


def summary(content: JobContent, tally: Tally) -> str:
    """Return what is new, the rules and the worst files."""
    fresh = "" if content.baseline_job_id is None else _fresh(tally)
    return f"{fresh}{_rules(content, tally)}{_worst(tally)}"


def finding_row(finding: Finding, file: str = "") -> str:
    """Return a finding as a row of a table; `file` is what stands over its text."""
    mark = '<span class="new">new</span> ' if finding.is_new and not file else ""
    level = "" if finding.level == Severity.WARNING else finding.level
    about = " · ".join(filter(None, [level, finding.name]))
    return (
        f'<tr class="{finding.level}"><td class="place">{finding.line}:{finding.position}</td>'
        f"<td><code>{escape(finding.code)}</code></td>"
        f"<td>{file}{mark}{escape(finding.description)}<small>{escape(about)}</small></td></tr>"
    )


def _about(content: JobContent) -> str:
    job = content.job
    told = [f"dialect {escape(job.dialect or '')}"]
    if job.profile_name is not None:
        told.append(f"profile {escape(job.profile_name)}")
    told += [
        f"fails on {content.policy.fail_on}",
        f"{job.created_at:%Y-%m-%d %H:%M} UTC",
        f"SQLFluff {escape(catalogue().sqlfluff_version)}",
    ]
    if content.baseline_job_id is not None:
        told.append(f"compared with <code>{escape(content.baseline_job_id)}</code>")
    return " · ".join(told)


def _rows_of_figures(content: JobContent, tally: Tally) -> Iterable[list[Figure]]:
    yield [
        ("files", tally.files, ""),
        ("without a violation", tally.clean, "good"),
        ("failed", tally.failed, "bad" if tally.failed else "good"),
        ("violations", tally.violations, ""),
    ]
    levels = tally.by_level
    yield [
        ("errors", levels[Severity.ERROR], "bad" if levels[Severity.ERROR] else "good"),
        ("warnings", levels[Severity.WARNING], "some" if levels[Severity.WARNING] else "good"),
        ("notes", levels[Severity.NOTE], ""),
    ]
    if content.baseline_job_id is not None:
        changes = tally.comparison()
        yield [
            ("new", changes["new"], "bad" if changes["new"] else "good"),
            ("fixed", changes["fixed"], "good"),
            ("unchanged", changes["unchanged"], ""),
        ]


def _figures(row: list[Figure]) -> str:
    tiles = "".join(
        f'<div class="figure {kind}"><dt>{label}</dt><dd>{number:,}</dd></div>'
        for label, number, kind in row
    )
    return f'<dl class="figures">{tiles}</dl>'


def _fresh(tally: Tally) -> str:
    rows = "".join(
        finding_row(finding, f'<div class="name">{_link(task_id, name)}</div>')
        for task_id, name, finding in tally.fresh
    )
    more = tally.new - len(tally.fresh)
    told = f'<p class="message">{more:,} more are not shown here.</p>' if more > 0 else ""
    table = f"<table>{rows}</table>{told}" if rows else '<p class="about">Nothing.</p>'
    return f"<section><h2>New since the baseline</h2>{table}</section>\n"


def _rules(content: JobContent, tally: Tally) -> str:
    if not tally.by_rule:
        return ""
    most = max(tally.by_rule.values())
    ranked = sorted(tally.by_rule.items(), key=lambda item: (-item[1], item[0]))
    rows = [_rule(content, code, count, most) for code, count in ranked]
    top = '<tr><th>Rule</th><th></th><th class="number">Violations</th><th class="share"></th></tr>'
    shown, others = "".join(rows[:_RULES_SHOWN]), "".join(rows[_RULES_SHOWN:])
    more = (
        f'<details class="more"><summary><span class="name">{len(rows) - _RULES_SHOWN} more'
        f"</span></summary><table>{others}</table></details>"
    )
    table = f"<table>{top}{shown}</table>{more if others else ''}"
    return f"<section><h2>By rule</h2>{table}</section>\n"


def _rule(content: JobContent, code: str, count: int, most: int) -> str:
    rule = next((rule for rule in catalogue().rules if rule.code == code), None)
    name, text = (rule.name, rule.description) if rule else ("", "The SQL could not be parsed.")
    level = content.policy.severity(code)
    tag = "" if level is Severity.WARNING else f' <span class="level {level}">{level}</span>'
    return (
        f'<tr><td class="code"><code>{escape(code)}</code></td>'
        f'<td class="rule">{escape(name)}{tag}<small>{escape(text)}</small></td>'
        f'<td class="number">{count:,}</td><td class="share">'
        f'<span class="bar" style="width:{100 * count / most:.1f}%"></span></td></tr>'
    )


def _worst(tally: Tally) -> str:
    if len(tally.worst) < 2:
        return ""
    rows = "".join(
        f'<tr><td class="name">{_link(task_id, name)}</td><td class="number">{found:,}</td></tr>'
        for task_id, name, found in tally.worst
    )
    top = '<tr><th>File</th><th class="number">Violations</th></tr>'
    return f"<section><h2>Most violations</h2><table>{top}{rows}</table></section>\n"


def _link(task_id: str, name: str) -> str:
    return f'<a href="#{escape(task_id)}">{escape(name)}</a>'
