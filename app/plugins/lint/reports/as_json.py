"""A job as one JSON document: the job, each file with SQLFluff's records, and the figures last."""

import json
from collections.abc import AsyncIterator

from app.common.clock import rfc3339
from app.plugins.lint.reports.content import Finding, JobContent, ReportedFile
from app.plugins.lint.reports.tally import Tally


async def render(content: JobContent) -> AsyncIterator[str]:
    """Yield the document's text, a file at a time."""
    tally = Tally()

    def one(file: ReportedFile) -> str:
        tally.add(file)
        return json.dumps(_file(file))

    yield f'{{"job": {json.dumps(_job(content))}, "files": ['
    comma = ""
    async for text in content.each(one):
        yield f"{comma}\n{text}"
        comma = ","
    yield "\n]"
    if content.baseline_job_id is not None:
        async for text in _gone(content, tally):
            yield text
    summary = {**tally.to_json(), "passed": tally.passed(content)}
    if content.baseline_job_id is not None:
        summary |= tally.comparison()
    yield f', "summary": {json.dumps(summary)}}}\n'


async def _gone(content: JobContent, tally: Tally) -> AsyncIterator[str]:
    """Yield the files of the baseline that the job does not have; what was in them is fixed."""
    yield ', "gone_files": ['
    comma = ""
    async for file in content.gone():
        tally.fixed += len(file.findings)
        told = {"file_name": file.name, "fixed": [_finding(one) for one in file.findings]}
        yield f"{comma}\n{json.dumps(told)}"
        comma = ","
    yield "\n]"


def _job(content: JobContent) -> dict[str, object]:
    job = content.job
    return {
        "job_id": job.job_id,
        "job_status": job.status,
        "dialect": job.dialect,
        "created_at": rfc3339(job.created_at),
        "updated_at": rfc3339(job.updated_at),
        "error_message": job.error_message,
        "profile_name": job.profile_name,
        "profile_version": (job.options or {}).get("profile_version"),
        "fail_on": content.policy.fail_on,
        "baseline_job_id": content.baseline_job_id,
    }


def _file(file: ReportedFile) -> dict[str, object]:
    record = file.record or {}
    told = {
        "task_id": file.task_id,
        "file_name": file.name,
        "status": file.status,
        "outcome": file.outcome,
        "error_message": file.message,
        "dialect": record.get("dialect"),
        "violations": file.violations,
        # One for each violation, in their order.
        "severities": [finding.level for finding in file.findings] if record else [],
        "notices": record.get("notices", []),
    }
    if file.fixed is None:
        return told
    fresh = [finding.is_new for finding in file.findings]
    return {
        **told,
        "is_new": fresh if record else [],
        "new": sum(map(bool, fresh)),
        "fixed": [_finding(one) for one in file.fixed],
    }


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "line": finding.line,
        "position": finding.position,
        "code": finding.code,
        "description": finding.description,
    }
