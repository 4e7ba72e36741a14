"""A job for the pages of a code host: GitHub's workflow commands, GitLab's code quality report."""

import json
from collections.abc import AsyncIterator

from app.plugins.lint.reports.content import Finding, JobContent, ReportedFile

_GITHUB_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}
_GITLAB_SEVERITIES = {"error": "critical", "warning": "minor", "note": "info"}


async def render_github(content: JobContent) -> AsyncIterator[str]:
    """Yield workflow commands, which GitHub shows beside the lines of a pull request.

    GitHub shows few of them, so with a baseline there are only those of what is new.
    """
    async for text in content.each(_commands):
        yield text


async def render_gitlab(content: JobContent) -> AsyncIterator[str]:
    """Yield a code quality report: a JSON array with an object for each finding."""
    comma = ""
    yield "["
    async for text in content.each(_issues):
        if text:
            yield f"{comma}\n{text}"
            comma = ","
    yield "\n]\n"


def _commands(file: ReportedFile) -> str:
    shown = (finding for finding in file.findings if finding.is_new is not False)
    return "".join(_command(file, finding) for finding in shown)


def _command(file: ReportedFile, finding: Finding) -> str:
    title = f"{finding.code} {finding.name}".strip()
    properties: dict[str, object] = {
        "file": file.path,
        "line": finding.line,
        "col": finding.position,
    }
    if finding.end_line is not None:
        properties["endLine"] = finding.end_line
        if finding.end_line == finding.line and finding.end_position is not None:
            properties["endColumn"] = finding.end_position
    properties["title"] = title
    told = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    return f"::{_GITHUB_COMMANDS[finding.level]} {told}::{_data(finding.description)}\n"


def _data(text: str) -> str:
    # GitHub's own toolkit escapes so; a line break would begin a command of the file's choice.
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _issues(file: ReportedFile) -> str:
    return ",\n".join(
        json.dumps(
            {
                "description": finding.description,
                "check_name": finding.code,
                "fingerprint": fingerprint,
                "severity": _GITLAB_SEVERITIES[finding.level],
                "location": {"path": file.path, "lines": {"begin": finding.line}},
            }
        )
        for finding, fingerprint in file.fingerprinted()
    )
