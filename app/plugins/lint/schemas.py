"""Documents of the lint plugin: results of its tasks, bodies of its routes."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from app.common.clock import rfc3339

Moment = Annotated[
    datetime,
    PlainSerializer(rfc3339, when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]

JobState = Literal["ACCEPTED", "PROCESSING", "COMPLETED", "PARTIALLY_COMPLETED", "FAILED"]
FileState = Literal["PENDING", "IN_PROGRESS", "SUCCESS", "FAILURE"]
SubmissionKind = Literal["SINGLE_FILE", "ZIP_ARCHIVE"]
_RULES = 500


class LintDocument(BaseModel):
    """The result of one lint; `violations` are SQLFluff's own records."""

    file_name: str
    dialect: str
    sqlfluff_version: str
    status: Literal["linted", "unparsable"]
    violations: list[dict[str, Any]]
    statistics: dict[str, int]
    notices: list[dict[str, Any]]
    engine: dict[str, Any]
    profile: dict[str, Any]


class ExpansionSummary(BaseModel):
    """What became of an archive: `files` are linted, `rejected` and `ignored` are not."""

    job_id: str
    status: JobState
    files: int
    rejected: int
    ignored: int


class LintRequest(BaseModel):
    """What to lint: exactly one of `sql_content` and `zip_file_path`, and how."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sql_content: str | None = None
    zip_file_path: str | None = Field(
        default=None, description="A ZIP archive, relative to the storage root."
    )
    dialect: str | None = None
    rules: list[str] | None = Field(default=None, max_length=_RULES)
    exclude_rules: list[str] | None = Field(default=None, max_length=_RULES)
    templater: str | None = Field(
        default=None, description="One that the server's settings define; without it SQL is plain."
    )


class JobAccepted(BaseModel):
    """The answer to a submission."""

    job_id: str


class FileItem(BaseModel):
    """One file of a job. Fields that do not apply are absent."""

    task_id: str
    file_name: str
    status: FileState
    result_file_path: str | None = None
    error_message: str | None = None
    violation_count: int | None = None


class FilePage(BaseModel):
    """One page of a job's files; `total` counts all of them."""

    total: int
    page: int
    size: int
    items: list[FileItem]


class JobSummary(BaseModel):
    """A job without its files. Times are UTC."""

    job_id: str
    job_status: JobState
    submission_type: SubmissionKind
    source_path: str
    created_at: Moment
    updated_at: Moment
    error_message: str | None = None


class JobDetail(JobSummary):
    """A job and one page of its files."""

    sub_tasks: FilePage


class JobList(BaseModel):
    """Jobs, newest first, and the cursor of the next page, None at the end."""

    items: list[JobSummary]
    next_cursor: str | None


class DialectItem(BaseModel):
    """A dialect: `name` is what requests say, `label` what people call it."""

    name: str
    label: str


class DialectList(BaseModel):
    """Every dialect, and the one of requests that name none."""

    items: list[DialectItem]
    default: str
    sqlfluff_version: str


class RuleItem(BaseModel):
    """A rule; requests select it by its code, its name, an alias or one of its groups."""

    code: str
    name: str
    groups: list[str]
    aliases: list[str]
    description: str
    fixable: bool


class RuleList(BaseModel):
    """Every rule, by code."""

    items: list[RuleItem]
    sqlfluff_version: str
