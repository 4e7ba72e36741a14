"""A job as one JSON document: the job, each file with SQLFluff's records, and the figures last."""

import json
from collections.abc import AsyncIterator

from app.common.clock import rfc3339
from app.plugins.lint.reports.content import JobContent, ReportedFile
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
    yield f'\n], "summary": {json.dumps(tally.to_json())}}}\n'


def _job(content: JobContent) -> dict[str, object]:
    job = content.job
    return {
        "job_id": job.job_id,
        "job_status": job.status,
        "dialect": job.dialect,
        "created_at": rfc3339(job.created_at),
        "updated_at": rfc3339(job.updated_at),
        "error_message": job.error_message,
    }


def _file(file: ReportedFile) -> dict[str, object]:
    record = file.record or {}
    return {
        "task_id": file.task_id,
        "file_name": file.name,
        "status": file.status,
        "outcome": file.outcome,
        "error_message": file.message,
        "dialect": record.get("dialect"),
        "violations": file.violations,
        "notices": record.get("notices", []),
    }
