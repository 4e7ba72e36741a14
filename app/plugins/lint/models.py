"""The tables of lint jobs, their files, and stored profiles (bind `mysql_lint`).

Names, types and states of the first columns are the ones that older clients of these
tables rely on; the columns below the timestamps are ours.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Boolean,
    Enum,
    FetchedValue,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.common.clock import utc_now
from app.db.base import BaseMysql
from app.db.types import JsonType, UTCDateTime

BIND = "mysql_lint"


class JobStatus(StrEnum):
    """Where a job stands; always derived from its files, never counted up."""

    ACCEPTED = "ACCEPTED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    PARTIALLY_COMPLETED = "PARTIALLY_COMPLETED"
    FAILED = "FAILED"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self not in {JobStatus.ACCEPTED, JobStatus.PROCESSING}


class SubmissionType(StrEnum):
    """What was handed in: one text or file, or a ZIP of files."""

    SINGLE_FILE = "SINGLE_FILE"
    ZIP_ARCHIVE = "ZIP_ARCHIVE"


class FileStatus(StrEnum):
    """Where one file of a job stands."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"

    @property
    def has_ended(self) -> bool:
        """Whether the file's outcome is recorded."""
        return self in {FileStatus.SUCCESS, FileStatus.FAILURE}


def _enum(values: type[StrEnum], name: str) -> Enum:
    return Enum(*(value.value for value in values), name=name)


class LintingJob(BaseMysql):
    """One submission: a text, a file or an archive."""

    __tablename__ = "linting_jobs"
    __table_args__ = (
        Index("ix_linting_jobs_created_by", "created_by", "id"),
        Index("ix_linting_jobs_status", "status"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(String(255), unique=True)
    status: Mapped[str] = mapped_column(_enum(JobStatus, "linting_job_status"))
    submission_type: Mapped[str] = mapped_column(_enum(SubmissionType, "linting_submission_type"))
    source_path: Mapped[str] = mapped_column(String(1024))
    error_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(
        UTCDateTime, default=utc_now, server_default=FetchedValue()
    )
    updated_at: Mapped[datetime] = mapped_column(
        UTCDateTime, default=utc_now, onupdate=utc_now, server_default=FetchedValue()
    )
    file_name: Mapped[str | None] = mapped_column(String(255))
    dialect: Mapped[str | None] = mapped_column(String(32))
    rules: Mapped[list[str] | None] = mapped_column(JsonType)
    exclude_rules: Mapped[list[str] | None] = mapped_column(JsonType)
    options: Mapped[dict[str, Any] | None] = mapped_column(JsonType)
    # The run that expands the archive or lints the single file.
    run_id: Mapped[str | None] = mapped_column(String(36))
    created_by: Mapped[str | None] = mapped_column(String(255))
    tenant: Mapped[str | None] = mapped_column(String(64))
    # None until the job has ended, and for jobs of before there were policies.
    passed: Mapped[bool | None] = mapped_column(Boolean)
    profile_name: Mapped[str | None] = mapped_column(String(64))
    # The earlier job that this one is compared with.
    baseline_job_id: Mapped[str | None] = mapped_column(String(255))


class LintingTask(BaseMysql):
    """One file of a job. `task_id` is the id of its run and of its Celery message."""

    __tablename__ = "linting_tasks"
    __table_args__ = (Index("ix_linting_tasks_job_id", "job_id", "status"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    task_id: Mapped[str] = mapped_column(String(255), unique=True)
    job_id: Mapped[str] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(_enum(FileStatus, "linting_task_status"))
    source_file_path: Mapped[str] = mapped_column(String(1024))
    result_file_path: Mapped[str | None] = mapped_column(String(1024))
    error_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(
        UTCDateTime, default=utc_now, server_default=FetchedValue()
    )
    updated_at: Mapped[datetime] = mapped_column(
        UTCDateTime, default=utc_now, onupdate=utc_now, server_default=FetchedValue()
    )
    # The name that the user gave the file; inside an archive it is the member's path.
    file_name: Mapped[str | None] = mapped_column(String(1024))
    # How the lint ended in one word: linted, unparsable, timeout, crashed, binary, too_large …
    outcome: Mapped[str | None] = mapped_column(String(32))
    size_bytes: Mapped[int | None] = mapped_column(Integer)
    violation_count: Mapped[int | None] = mapped_column(Integer)
    duration_ms: Mapped[int | None] = mapped_column(Integer)
    passed: Mapped[bool | None] = mapped_column(Boolean)
    # Findings by severity; a file without a result has one, which is an error.
    error_count: Mapped[int | None] = mapped_column(Integer)
    warning_count: Mapped[int | None] = mapped_column(Integer)
    note_count: Mapped[int | None] = mapped_column(Integer)
    # The same file of the job's baseline, and what has changed since then.
    baseline_task_id: Mapped[str | None] = mapped_column(String(255))
    new_count: Mapped[int | None] = mapped_column(Integer)
    fixed_count: Mapped[int | None] = mapped_column(Integer)


class LintProfile(BaseMysql):
    """A stored profile: how SQL is linted and judged, under a name."""

    __tablename__ = "lint_profiles"
    # Without a tenant the text is empty: two rows without one would not be equal in an index.
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    tenant: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer)
    description: Mapped[str | None] = mapped_column(String(1024))
    wish: Mapped[dict[str, Any]] = mapped_column(JsonType)
    created_by: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(
        UTCDateTime, default=utc_now, server_default=FetchedValue()
    )
    updated_at: Mapped[datetime] = mapped_column(
        UTCDateTime, default=utc_now, onupdate=utc_now, server_default=FetchedValue()
    )
