"""The routes of lint jobs, under /api/v1 and, for older clients, without that prefix; and of
the rules.
"""

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Path, Query, Request, Response, UploadFile
from starlette.responses import StreamingResponse

from app.api.cursors import open_cursor, seal_cursor
from app.api.dependencies import CoreServices, Manager, Reader, Runner
from app.api.moments import Moment
from app.api.routes.runs import get_task_result
from app.common.errors import FieldError, ValidationFailed
from app.plugins.lint.catalogue import catalogue
from app.plugins.lint.errors import SqlTooLarge
from app.plugins.lint.models import LintingJob, LintingTask
from app.plugins.lint.reports import FORMS, ReportFormat, encoded
from app.plugins.lint.repository import JobFilters
from app.plugins.lint.schemas import (
    DialectItem,
    DialectList,
    FileItem,
    FilePage,
    JobAccepted,
    JobDetail,
    JobList,
    JobState,
    JobSummary,
    LintRequest,
    RuleItem,
    RuleList,
    SubmissionKind,
)
from app.plugins.lint.service import LintJobs, LintOptions
from app.plugins.lint.settings import LintSettings
from app.plugins.lint.uploads import check_sql, check_zip_start, extension_of
from app.tasks.errors import InvalidCursor

jobs_router = APIRouter(prefix="/jobs", tags=["lint"])
rules_router = APIRouter(prefix="/lint", tags=["lint"])

_CHUNK_BYTES = 1 << 20
_MAX_ID = 2**31 - 1
JobId = Annotated[str, Path(description="The id that the submission answered with.")]


def get_lint_jobs(services: CoreServices) -> LintJobs:
    """Return the service behind the routes."""
    settings = services.plugin_settings.get("lint")
    return LintJobs(services, settings if isinstance(settings, LintSettings) else LintSettings())


Jobs = Annotated[LintJobs, Depends(get_lint_jobs)]


@jobs_router.post("", status_code=202)
async def submit_lint_job(
    body: LintRequest, jobs: Jobs, caller: Runner, request: Request, response: Response
) -> JobAccepted:
    """Lint an SQL text, or every SQL file of a ZIP archive that lies on the storage."""
    options = jobs.check_options(body.dialect, body.rules, body.exclude_rules, body.templater)
    job_id = await jobs.submit(
        caller, options, sql_content=body.sql_content, zip_file_path=body.zip_file_path
    )
    return _accepted(job_id, request, response)


def read_form_options(
    jobs: Jobs,
    dialect: Annotated[str | None, Form()] = None,
    rules: Annotated[str | None, Form(description="Names, separated by commas.")] = None,
    exclude_rules: Annotated[str | None, Form(description="As for rules.")] = None,
    templater: Annotated[str | None, Form(description="One of the server's settings.")] = None,
) -> LintOptions:
    """Return the options that stand beside an uploaded file."""
    return jobs.check_options(dialect, _names(rules), _names(exclude_rules), templater)


@jobs_router.post("/upload", status_code=202)
async def upload_lint_job(
    *,
    file: Annotated[UploadFile, File(description="A .sql file or a .zip of them.")],
    options: Annotated[LintOptions, Depends(read_form_options)],
    services: CoreServices,
    jobs: Jobs,
    caller: Runner,
    request: Request,
    response: Response,
) -> JobAccepted:
    """Lint an uploaded file; its name, declared type and content must agree."""
    limits = services.settings.limits
    allowed = frozenset(limits.allowed_upload_types)
    name = file.filename or ""
    extension = extension_of(name, file.content_type or "", allowed)
    if extension == "sql":
        chunks = await _checked_sql(file, jobs.settings.max_text_bytes)
    else:
        chunks = await _checked_zip(file)
    job_id = await jobs.submit_upload(
        caller,
        options,
        file_name=name,
        extension=extension,
        chunks=chunks,
        max_bytes=limits.max_upload_mb * 2**20,
    )
    return _accepted(job_id, request, response)


async def read_job_filters(
    status: JobState | None = None,
    submission_type: SubmissionKind | None = None,
    dialect: Annotated[str | None, Query(max_length=32)] = None,
    created_after: Moment | None = None,
    created_before: Moment | None = None,
) -> JobFilters:
    """Return what the list is narrowed to; the span of time ends before `created_before`."""
    if created_after and created_before and created_after >= created_before:
        fault = FieldError(("query", "created_before"), "must be after created_after", "empty_span")
        raise ValidationFailed("The span of time is empty.", errors=[fault])
    return JobFilters(
        status=status,
        submission_type=submission_type,
        dialect=dialect,
        created_after=created_after,
        created_before=created_before,
    )


@jobs_router.get("")
async def list_lint_jobs(
    jobs: Jobs,
    caller: Reader,
    filters: Annotated[JobFilters, Depends(read_job_filters)],
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> JobList:
    """Return jobs, newest first; an administrator sees those of all users."""
    scope = ("lint jobs", caller.id, filters)
    before = _row_id(open_cursor(cursor, scope))
    rows = await jobs.list(caller, filters, before=before, limit=limit + 1)
    more = len(rows) > limit
    return JobList(
        items=[JobSummary.model_validate(_job_fields(job)) for job in rows[:limit]],
        next_cursor=seal_cursor(str(rows[limit - 1].id) if more else None, scope),
    )


@jobs_router.get("/{job_id}", response_model_exclude_none=True)
async def get_lint_job(
    job_id: JobId,
    jobs: Jobs,
    caller: Reader,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=500)] = 10,
) -> JobDetail:
    """Return a job and one page of its files."""
    job, total, rows = await jobs.get(job_id, caller, page=page, size=size)
    files = FilePage(total=total, page=page, size=size, items=[_file_item(row) for row in rows])
    return JobDetail.model_validate({**_job_fields(job), "sub_tasks": files})


@jobs_router.get(
    "/{job_id}/report",
    response_class=Response,
    responses={
        200: {
            "description": "The report, in the form that was asked for",
            "content": {form.media_type: {} for form in FORMS.values()},
        },
        409: {"description": "The job has not ended"},
    },
)
async def get_lint_report(
    job_id: JobId,
    jobs: Jobs,
    caller: Reader,
    report_format: Annotated[ReportFormat, Query(alias="format")] = ReportFormat.JSON,
) -> Response:
    """Return what was found in all files of an ended job.

    `json` has SQLFluff's records, `csv` a line for each violation, `html` is a page to look at,
    `sarif` (2.1.0), `github` (workflow commands) and `gitlab` (code quality) are for programs.
    """
    content = await jobs.report(job_id, caller)
    form = FORMS[report_format]
    disposition = form.content_disposition(content.job.job_id)
    return StreamingResponse(
        encoded(form.render(content)),
        media_type=form.media_type,
        headers={"Content-Disposition": disposition, **form.headers},
    )


@jobs_router.post("/{job_id}/cancel", status_code=202)
async def cancel_lint_job(job_id: JobId, jobs: Jobs, caller: Manager) -> JobSummary:
    """Cancel what waits of a job; a file that is being linted is finished. 409 when it has ended.

    Files that were not linted count as failed, so the job ends as `FAILED` or
    `PARTIALLY_COMPLETED`.
    """
    return JobSummary.model_validate(_job_fields(await jobs.cancel(job_id, caller)))


@rules_router.get("/dialects")
async def list_dialects(jobs: Jobs, caller: Reader) -> DialectList:
    """Return the dialects of SQL that can be linted."""
    del caller  # It is enough that there is one.
    known = catalogue()
    return DialectList(
        items=[DialectItem(name=name, label=label) for name, label in known.dialects.items()],
        default=jobs.settings.default_dialect,
        sqlfluff_version=known.sqlfluff_version,
    )


@rules_router.get("/rules")
async def list_rules(caller: Reader) -> RuleList:
    """Return the rules that violations come from and that requests can select."""
    del caller
    known = catalogue()
    items = [RuleItem.model_validate(asdict(rule)) for rule in known.rules]
    return RuleList(items=items, sqlfluff_version=known.sqlfluff_version)


router = APIRouter()
router.include_router(jobs_router)
router.include_router(rules_router)

# The older clients' paths; a file task's result is the result of the run with the same id.
root_router = APIRouter(tags=["lint"])
root_router.include_router(jobs_router)
root_router.add_api_route(
    "/tasks/{task_id}/result", get_task_result, methods=["GET"], response_class=Response
)


def _accepted(job_id: str, request: Request, response: Response) -> JobAccepted:
    folder = request.url.path.removesuffix("/upload")
    response.headers["Location"] = f"{folder}/{job_id}"
    return JobAccepted(job_id=job_id)


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _row_id(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and int(cursor[:20]) <= _MAX_ID):
        raise InvalidCursor("The cursor was not made by this list.")
    return int(cursor)


async def _checked_sql(file: UploadFile, limit: int) -> AsyncIterator[bytes]:
    data = await file.read(limit + 1)
    if len(data) > limit:
        raise SqlTooLarge(f"The file has more than {limit} bytes.")
    check_sql(data)
    return _chunks(data, file)


async def _checked_zip(file: UploadFile) -> AsyncIterator[bytes]:
    start = await file.read(_CHUNK_BYTES)
    check_zip_start(start)
    return _chunks(start, file)


async def _chunks(start: bytes, file: UploadFile) -> AsyncIterator[bytes]:
    yield start
    while chunk := await file.read(_CHUNK_BYTES):
        yield chunk


def _job_fields(job: LintingJob) -> dict[str, object]:
    return {
        "job_id": job.job_id,
        "job_status": str(job.status),
        "submission_type": str(job.submission_type),
        "source_path": job.source_path,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "error_message": job.error_message,
    }


def _file_item(task: LintingTask) -> FileItem:
    return FileItem.model_validate(
        {
            "task_id": task.task_id,
            "file_name": task.file_name or task.source_file_path.rsplit("/", 1)[-1],
            "status": str(task.status),
            "result_file_path": task.result_file_path,
            "error_message": task.error_message,
            "violation_count": task.violation_count,
        }
    )
