"""A job as SARIF 2.1.0, which code scanning services and editors read."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from app.plugins.lint.catalogue import catalogue
from app.plugins.lint.policies import Policy
from app.plugins.lint.reports.content import Finding, JobContent, ReportedFile, fingerprinted
from app.plugins.lint.reports.tally import Tally

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_FINGERPRINT = "taskyardFinding/v1"
# What SQLFluff reports beside the violations of rules.
_NO_RULES = {
    "PRS": "The text could not be parsed.",
    "LXR": "The text could not be split into words.",
    "TMP": "The template could not be rendered.",
    "NOQA": "A noqa comment is not right.",
}
_STATES = {None: None, True: "new", False: "unchanged"}


async def render(content: JobContent) -> AsyncIterator[str]:
    """Yield the log's text, a file at a time; files without a result are notifications."""
    head = f'{{"$schema": "{_SCHEMA}", "version": "2.1.0", "runs": [{{'
    tool = json.dumps(_tool(content.policy))
    yield f'{head}"tool": {tool}, "columnKind": "unicodeCodePoints", "results": ['
    lost: list[dict[str, Any]] = []
    tally = Tally()

    def one(file: ReportedFile) -> str:
        tally.add(file)
        if file.record is None:
            lost.append(_notification(file))
        return _results(file)

    comma = ""
    async for text in content.each(one):
        if text:
            yield f"{comma}\n{text}"
            comma = ","
    async for gone in content.gone():
        for finding, fingerprint in fingerprinted(gone.path, gone.findings):
            yield f"{comma}\n{json.dumps(_result(gone.path, finding, fingerprint, 'absent'))}"
            comma = ","
    properties = {"passed": tally.passed(content), "failOn": content.policy.fail_on}
    yield f'\n], "properties": {json.dumps(properties)}'
    yield f', "invocations": [{{"toolExecutionNotifications": {json.dumps(lost)}'
    successful = json.dumps(content.job.status != "FAILED")
    yield f', "executionSuccessful": {successful}}}]}}]}}\n'


def _tool(policy: Policy) -> dict[str, Any]:
    known = catalogue()
    rules = [
        {
            "id": rule.code,
            "name": rule.name,
            "shortDescription": {"text": rule.description},
            "defaultConfiguration": {"level": policy.severity(rule.code)},
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
    found = [] if file.record is None else file.fingerprinted()
    results = [
        _result(file.path, finding, fingerprint, _STATES[finding.is_new])
        for finding, fingerprint in found
    ]
    results += [
        _result(file.path, finding, fingerprint, "absent")
        for finding, fingerprint in fingerprinted(file.path, file.fixed or ())
    ]
    return ",\n".join(map(json.dumps, results))


def _result(path: str, finding: Finding, fingerprint: str, state: str | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "level": finding.level,
        "message": {"text": finding.description or finding.code},
        "locations": [_location(path, finding)],
        "partialFingerprints": {_FINGERPRINT: fingerprint},
    }
    return result if state is None else {**result, "baselineState": state}


def _location(path: str, finding: Finding | None) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": quote(path, safe="/-._~")}}
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
        "locations": [_location(file.path, None)],
    }
