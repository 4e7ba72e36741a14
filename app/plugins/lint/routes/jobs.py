"""The routes of lint jobs."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Path, Query, Request, Response, UploadFile
from starlette.responses import StreamingResponse

from app.api.cursors import open_cursor, seal_cursor
from app.api.dependencies import CoreServices, Manager, Reader, Runner
from app.api.moments import Moment
from app.common.errors import FieldError, ValidationFailed
from app.plugins.lint.errors import SqlTooLarge
from app.plugins.lint.options import Wish
from app.plugins.lint.ordering import Order
from app.plugins.lint.reports import FORMS, ReportFormat, encoded
from app.plugins.lint.repository import JobFilters
from app.plugins.lint.routes.dependencies import Jobs
from app.plugins.lint.routes.views import job_detail, job_summary
from app.plugins.lint.schemas import (
    FailOn,
    JobAccepted,
    JobDetail,
    JobList,
    JobState,
    JobSummary,
    LintRequest,
    ProfileName,
    SubmissionKind,
)
from app.plugins.lint.uploads import check_sql, check_zip_start, extension_of
from app.tasks.errors import InvalidCursor

router = APIRouter(prefix="/jobs", tags=["lint"])

_CHUNK_BYTES = 1 << 20
_MAX_ID = 2**31 - 1
JobId = Annotated[str, Path(description="The id that the submission answered with.")]


@router.post("", status_code=202)
async def submit_lint_job(
    body: LintRequest, jobs: Jobs, caller: Runner, request: Request, response: Response
) -> JobAccepted:
    """Lint an SQL text, or every SQL file of a ZIP archive that lies on the storage."""
    order = await jobs.ordering.read(
        caller,
        Wish(
            dialect=body.dialect,
            rules=_tuple(body.rules),
            exclude_rules=_tuple(body.exclude_rules),
            fail_on=body.fail_on,
            templater=body.templater,
        ),
        body.profile,
        body.baseline_job_id,
    )
    job_id = await jobs.submit(
        caller, order, sql_content=body.sql_content, zip_file_path=body.zip_file_path
    )
    return _accepted(job_id, request, response)


async def read_form_order(  # noqa: PLR0913 - its parameters are the form's fields
    *,
    jobs: Jobs,
    caller: Runner,
    dialect: Annotated[str | None, Form()] = None,
    rules: Annotated[str | None, Form(description="Names, separated by commas.")] = None,
    exclude_rules: Annotated[str | None, Form(description="As for rules.")] = None,
    templater: Annotated[str | None, Form(description="One of the server's settings.")] = None,
    profile: Annotated[ProfileName | None, Form(description="A stored profile.")] = None,
    fail_on: Annotated[FailOn | None, Form()] = None,
    baseline_job_id: Annotated[str | None, Form(max_length=255)] = None,
) -> Order:
    """Return how an uploaded file is linted, as the fields beside it say."""
    wish = Wish(
        dialect=dialect,
        rules=_names(rules),
        exclude_rules=_names(exclude_rules),
        fail_on=fail_on,
        templater=templater,
    )
    return await jobs.ordering.read(caller, wish, profile, baseline_job_id)


@router.post("/upload", status_code=202)
async def upload_lint_job(
    *,
    file: Annotated[UploadFile, File(description="A .sql file or a .zip of them.")],
    order: Annotated[Order, Depends(read_form_order)],
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
        order,
        file_name=name,
        extension=extension,
        chunks=chunks,
        max_bytes=limits.max_upload_mb * 2**20,
    )
    return _accepted(job_id, request, response)


async def read_job_filters(
    *,
    status: JobState | None = None,
    submission_type: SubmissionKind | None = None,
    dialect: Annotated[str | None, Query(max_length=32)] = None,
    profile: Annotated[str | None, Query(max_length=64)] = None,
    passed: bool | None = None,
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
        profile_name=profile,
        passed=passed,
        created_after=created_after,
        created_before=created_before,
    )


@router.get("")
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
        items=[job_summary(job) for job in rows[:limit]],
        next_cursor=seal_cursor(str(rows[limit - 1].id) if more else None, scope),
    )


@router.get("/{job_id}", response_model_exclude_none=True)
async def get_lint_job(
    job_id: JobId,
    jobs: Jobs,
    caller: Reader,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=500)] = 10,
) -> JobDetail:
    """Return a job and one page of its files."""
    return job_detail(await jobs.get(job_id, caller, page=page, size=size), page, size)


@router.get(
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
    baseline: Annotated[
        str | None, Query(max_length=255, description="An earlier job to compare with.")
    ] = None,
) -> Response:
    """Return what was found in all files of an ended job.

    `json` has SQLFluff's records, `csv` a line for each violation, `html` is a page to look at,
    `sarif` (2.1.0), `github` (workflow commands) and `gitlab` (code quality) are for programs.
    """
    content = await jobs.report(job_id, caller, baseline)
    form = FORMS[report_format]
    disposition = form.content_disposition(content.job.job_id)
    return StreamingResponse(
        encoded(form.render(content)),
        media_type=form.media_type,
        headers={"Content-Disposition": disposition, **form.headers},
    )


@router.post("/{job_id}/cancel", status_code=202)
async def cancel_lint_job(job_id: JobId, jobs: Jobs, caller: Manager) -> JobSummary:
    """Cancel what waits of a job; a file that is being linted is finished. 409 when it has ended.

    Files that were not linted count as failed, so the job ends as `FAILED` or
    `PARTIALLY_COMPLETED`.
    """
    return job_summary(await jobs.cancel(job_id, caller))


def _accepted(job_id: str, request: Request, response: Response) -> JobAccepted:
    folder = request.url.path.removesuffix("/upload")
    response.headers["Location"] = f"{folder}/{job_id}"
    return JobAccepted(job_id=job_id)


def _tuple(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _names(text: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else None


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
