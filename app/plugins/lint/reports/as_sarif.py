"""A job as SARIF 2.1.0, which code scanning services and editors read."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from app.plugins.lint.catalogue import catalogue
from app.plugins.lint.reports.content import Finding, JobContent, ReportedFile

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_FINGERPRINT = "taskyardFinding/v1"
# What SQLFluff reports beside the violations of rules.
_NO_RULES = {
    "PRS": "The text could not be parsed.",
    "LXR": "The text could not be split into words.",
    "TMP": "The template could not be rendered.",
    "NOQA": "A noqa comment is not right.",
}


async def render(content: JobContent) -> AsyncIterator[str]:
    """Yield the log's text, a file at a time; files without a result are notifications."""
    head = f'{{"$schema": "{_SCHEMA}", "version": "2.1.0", "runs": [{{'
    yield f'{head}"tool": {json.dumps(_tool())}, "columnKind": "unicodeCodePoints", "results": ['
    lost: list[dict[str, Any]] = []

    def one(file: ReportedFile) -> str:
        if file.record is None:
            lost.append(_notification(file))
        return _results(file)

    comma = ""
    async for text in content.each(one):
        if text:
            yield f"{comma}\n{text}"
            comma = ","
    yield f'\n], "invocations": [{{"toolExecutionNotifications": {json.dumps(lost)}'
    successful = json.dumps(content.job.status != "FAILED")
    yield f', "executionSuccessful": {successful}}}]}}]}}\n'


def _tool() -> dict[str, Any]:
    known = catalogue()
    rules = [
        {
            "id": rule.code,
            "name": rule.name,
            "shortDescription": {"text": rule.description},
            "defaultConfiguration": {"level": "warning"},
            "properties": {"tags": list(rule.groups)},
        }
        for rule in known.rules
    ]
    rules += [{"id": code, "shortDescription": {"text": text}} for code, text in _NO_RULES.items()]
    driver = {
        "name": "SQLFluff",
        "version": known.sqlfluff_version,
        "informationUri": "https://docs.sqlfluff.com",
        "rules": rules,
    }
    return {"driver": driver}


def _results(file: ReportedFile) -> str:
    if file.record is None:
        return ""
    return ",\n".join(
        json.dumps(
            {
                "ruleId": finding.code,
                "level": finding.level,
                "message": {"text": finding.description or finding.code},
                "locations": [_location(file, finding)],
                "partialFingerprints": {_FINGERPRINT: fingerprint},
            }
        )
        for finding, fingerprint in file.fingerprinted()
    )


def _location(file: ReportedFile, finding: Finding | None) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": quote(file.path, safe="/-._~")}}
    if finding is not None:
        place["region"] = {"startLine": finding.line, "startColumn": finding.position}
        if finding.end_line is not None and finding.end_position is not None:
            place["region"] |= {"endLine": finding.end_line, "endColumn": finding.end_position}
    return {"physicalLocation": place}


def _notification(file: ReportedFile) -> dict[str, Any]:
    return {
        "level": "error",
        "descriptor": {"id": file.outcome},
        "message": {"text": file.message or "The file was not linted."},
        "locations": [_location(file, None)],
    }
