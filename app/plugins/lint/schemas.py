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


Severity = Literal["error", "warning", "note"]
FailOn = Literal["error", "warning", "note", "never"]
ProfileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class FindingCounts(BaseModel):
    """Numbers of findings by severity."""

    error: int
    warning: int
    note: int


class LintDocument(BaseModel):
    """The result of one lint; `violations` are SQLFluff's own records, each with a fingerprint
    that outlives a move of its line. `passed` follows from `counts` and `fail_on`.
    """

    file_name: str
    passed: bool
    fail_on: FailOn
    counts: FindingCounts
    profile_name: str | None
    profile_version: int | None
    dialect: str
    sqlfluff_version: str
    status: Literal["linted", "unparsable"]
    violations: list[dict[str, Any]]
    statistics: dict[str, int]
    notices: list[dict[str, Any]]
    engine: dict[str, Any]
    profile: dict[str, Any]
    fingerprints: list[str]


class FixDocument(BaseModel):
    """A text as SQLFluff's fixes leave it; it still parses. `diff` is a unified diff, empty when
    nothing was changed, `remaining` are the violations that are left.
    """

    file_name: str
    dialect: str
    changed: bool
    diff: str
    fixed_sql: str
    violations_before: int
    violations_after: int
    remaining: list[dict[str, Any]]
    passed: bool
    counts: FindingCounts
    notices: list[dict[str, Any]]
    engine: dict[str, Any]
    profile: dict[str, Any]
    duration_ms: int


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
    profile: ProfileName | None = Field(
        default=None, description="A stored profile; what else the request says counts more."
    )
    fail_on: FailOn | None = Field(
        default=None, description="What makes the job not pass, and all that is worse (warning)."
    )
    baseline_job_id: str | None = Field(
        default=None,
        max_length=255,
        description="An earlier job; only what is new since then keeps this one from passing.",
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
    passed: bool | None = None
    counts: FindingCounts | None = None
    new_count: int | None = None
    fixed_count: int | None = None


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
    run_id: str | None = None
    dialect: str | None = None
    profile_name: str | None = None
    baseline_job_id: str | None = None
    passed: bool | None = None


class JobFigures(BaseModel):
    """How far a job is: files that ended, how many of them failed, and what was found so far.

    `new`, `fixed` and `unchanged` compare the findings with those of the job's baseline.
    """

    files: int
    ended: int
    failed: int
    findings: FindingCounts
    new: int | None = None
    fixed: int | None = None
    unchanged: int | None = None


class JobProgress(BaseModel):
    """How far a job is: what each event of its stream tells."""

    job_id: str
    job_status: JobState
    figures: JobFigures
    passed: bool | None = None
    error_message: str | None = None


class JobDetail(JobSummary):
    """A job, its figures, and one page of its files."""

    figures: JobFigures
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


class OptionItem(BaseModel):
    """An option of a rule (by its code) or of the layout, under the key that profiles use.

    A value is one of `choices`, a whole number from `minimum` to `maximum`, or else a text.
    """

    key: str
    rule: str | None
    description: str
    default: bool | int | str | None
    choices: list[bool | str]
    minimum: int | None
    maximum: int | None


class RuleList(BaseModel):
    """Every rule, by code, and every option that a profile can set."""

    items: list[RuleItem]
    options: list[OptionItem]
    sqlfluff_version: str


Selector = Annotated[str, Field(max_length=100)]
Selectors = Annotated[list[Selector], Field(max_length=_RULES)]


class ProfileContent(BaseModel):
    """How SQL is linted and judged. What is left out is the server's or SQLFluff's default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    description: str | None = Field(default=None, max_length=1024)
    dialect: str | None = None
    rules: Selectors | None = Field(default=None, description="Codes, names, aliases or groups.")
    exclude_rules: Selectors | None = None
    options: dict[Annotated[str, Field(max_length=200)], bool | int | str] | None = Field(
        default=None, max_length=200, description="As `GET /lint/rules` lists them."
    )
    severities: dict[Selector, Literal["error", "warning", "note", "off"]] | None = Field(
        default=None,
        max_length=_RULES,
        description="By rule or group, the narrower one counts; other rules are warnings.",
    )
    fail_on: FailOn | None = Field(default=None, description="Without it: warning.")
    obey_comments: bool | None = Field(
        default=None, description="Whether noqa comments and directives in a file count (true)."
    )
    templater: str | None = Field(default=None, max_length=64)


class NewProfile(ProfileContent):
    """A profile to be stored."""

    name: ProfileName


class ProfileChange(ProfileContent):
    """What takes the place of a profile's content; with `version` only if it still has that one."""

    version: int | None = Field(default=None, ge=1)


class StoredProfile(ProfileContent):
    """A stored profile; `version` counts its contents."""

    name: str
    version: int
    created_at: Moment
    updated_at: Moment


class ProfileList(BaseModel):
    """Profiles by name, and the cursor of the next page, None at the end."""

    items: list[StoredProfile]
    next_cursor: str | None
