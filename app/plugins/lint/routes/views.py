"""Rows of jobs and files as clients see them."""

from app.plugins.lint.baselines import GONE
from app.plugins.lint.models import LintingJob, LintingTask
from app.plugins.lint.schemas import (
    FileItem,
    FilePage,
    FindingCounts,
    JobDetail,
    JobFigures,
    JobProgress,
    JobSummary,
)
from app.plugins.lint.service import JobView


def job_summary(job: LintingJob) -> JobSummary:
    """Return a job without its files."""
    return JobSummary.model_validate(_job_fields(job))


def job_detail(view: JobView, page: int, size: int) -> JobDetail:
    """Return a job with its figures and a page of its files."""
    items = [_file_item(row) for row in view.files]
    files = FilePage(total=view.total, page=page, size=size, items=items)
    told = {**_job_fields(view.job), "figures": _figures(view), "sub_tasks": files}
    return JobDetail.model_validate(told)


def job_progress(view: JobView) -> JobProgress:
    """Return how far a job is."""
    job = view.job
    return JobProgress.model_validate(
        {
            "job_id": job.job_id,
            "job_status": str(job.status),
            "figures": _figures(view),
            "passed": job.passed,
            "error_message": job.error_message,
        }
    )


def _job_fields(job: LintingJob) -> dict[str, object]:
    return {
        "job_id": job.job_id,
        "job_status": str(job.status),
        "submission_type": str(job.submission_type),
        "source_path": job.source_path,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "error_message": job.error_message,
        "run_id": job.run_id,
        "dialect": job.dialect,
        "profile_name": job.profile_name,
        "baseline_job_id": job.baseline_job_id,
        "passed": job.passed,
    }


def _figures(view: JobView) -> JobFigures:
    sums = view.sums
    findings = FindingCounts(error=sums["error"], warning=sums["warning"], note=sums["note"])
    figures = JobFigures(
        files=view.total, ended=sums["ended"], failed=sums["failed"], findings=findings
    )
    if view.job.baseline_job_id is None:
        return figures
    known = sums["error"] + sums["warning"] + sums["note"] - sums["new"]
    gone = (view.job.options or {}).get(GONE, 0)
    changes = {"new": sums["new"], "fixed": sums["fixed"] + gone, "unchanged": known}
    return figures.model_copy(update=changes)


def _file_item(task: LintingTask) -> FileItem:
    counts = None
    if task.error_count is not None:
        counts = FindingCounts(
            error=task.error_count, warning=task.warning_count or 0, note=task.note_count or 0
        )
    return FileItem.model_validate(
        {
            "task_id": task.task_id,
            "file_name": task.file_name or task.source_file_path.rsplit("/", 1)[-1],
            "status": str(task.status),
            "result_file_path": task.result_file_path,
            "error_message": task.error_message,
            "violation_count": task.violation_count,
            "passed": task.passed,
            "counts": counts,
            "new_count": task.new_count,
            "fixed_count": task.fixed_count,
        }
    )
