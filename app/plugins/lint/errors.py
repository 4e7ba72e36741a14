"""What can go wrong at the lint endpoints; each message tells what to do instead."""

from app import Fatal
from app.common.errors import (
    BadRequest,
    Conflict,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
)


class LintSourceMissing(BadRequest):
    """A lint job needs exactly one of `sql_content` and `zip_file_path`."""

    code = "LINT_SOURCE_MISSING"
    title = "Nothing to lint"

    def __init__(self) -> None:
        # Older clients compare this text.
        super().__init__("Either 'sql_content' or 'zip_file_path' must be provided.")


class LintPathInvalid(BadRequest):
    """`zip_file_path` is no relative path of an existing file below the storage root."""

    code = "LINT_PATH_INVALID"
    title = "Not a file on the storage"


class LintFieldInvalid(ValidationFailed):
    """A dialect, a rule or the SQL text of a lint request is not usable."""

    code = "LINT_FIELD_INVALID"
    title = "Wrong lint request"


class SqlTooLarge(PayloadTooLarge):
    """The SQL text is larger than the lint plugin accepts; hand in several files as a ZIP."""

    code = "SQL_TOO_LARGE"
    title = "SQL text too large"


class UploadEmpty(ValidationFailed):
    """The uploaded file has no content."""

    code = "UPLOAD_EMPTY"
    title = "Empty upload"


class UploadTypeMismatch(UnsupportedMediaType):
    """The upload's name, declared type and content do not agree on SQL text or ZIP."""

    code = "UPLOAD_TYPE_MISMATCH"
    title = "Not an SQL file or ZIP archive"


class JobNotFound(NotFound):
    """There is no lint job with this id, or the caller may not see it."""

    code = "JOB_NOT_FOUND"
    title = "Job not found"

    def __init__(self) -> None:
        # Older clients compare this text.
        super().__init__("Job not found")


class JobHasEnded(Conflict):
    """The lint job has ended; there is nothing to cancel."""

    code = "JOB_HAS_ENDED"
    title = "Job has ended"

    def __init__(self, status: str) -> None:
        super().__init__(f"The job ended as {status}.")


class JobNotFinished(Conflict):
    """The lint job goes on; its report is there when it has ended."""

    code = "JOB_NOT_FINISHED"
    title = "Job has not ended"

    def __init__(self, status: str) -> None:
        super().__init__(f"The job is {status}; its report is there when it has ended.")


class LintProfileNotFound(NotFound):
    """There is no stored lint profile of this name."""

    code = "LINT_PROFILE_NOT_FOUND"
    title = "Lint profile not found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no lint profile '{name[:64]}'.")


class LintProfileTaken(Conflict):
    """There is a stored lint profile of this name already; replace it with PUT."""

    code = "LINT_PROFILE_TAKEN"
    title = "Name of a lint profile taken"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is a lint profile '{name}' already.")


class LintProfileChanged(Conflict):
    """The stored lint profile was changed since the version that was given; read it again."""

    code = "LINT_PROFILE_CHANGED"
    title = "Lint profile changed"
    status = 412

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"The lint profile '{name}' has version {version} by now.")


class LintFailed(Fatal):
    """The file or text could not be linted, and another attempt would end the same way."""


class LintTimeout(LintFailed):
    """The lint took longer than a file of this size may take."""


class LintFixRefused(LintFailed):
    """The text has syntax errors, or would have some after the fix; nothing was changed."""


class NotSqlText(LintFailed):
    """The content is binary, or larger than what is linted."""


class LintOptionUnknown(LintFailed):
    """The parameters name a stored profile or a templater that does not exist."""


class LintJobNotKnown(LintFailed):
    """The parameters name a job or a file task that does not exist."""


def lint_failure(outcome: str, message: str | None) -> LintFailed:
    """Return the error of a run whose file ended without a result document."""
    kinds = {"timeout": LintTimeout, "binary": NotSqlText, "too_large": NotSqlText}
    return kinds.get(outcome, LintFailed)(message or "The file could not be linted.")
