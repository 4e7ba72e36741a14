"""The tasks of the lint plugin."""

from dataclasses import replace
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, Field

from app import Schedule, TaskContext, register_task
from app.db import installed
from app.plugins.lint.caching import KnownLints
from app.plugins.lint.catalogue import check_dialect, check_rule
from app.plugins.lint.errors import (
    LintFailed,
    LintFieldInvalid,
    LintFixRefused,
    LintJobNotKnown,
    LintOptionUnknown,
    LintProfileNotFound,
    lint_failure,
)
from app.plugins.lint.expanding import ArchiveExpander, JobNotKnownError
from app.plugins.lint.fixing import Fixer
from app.plugins.lint.judging import head_of, judge
from app.plugins.lint.linting import Linter, document_of
from app.plugins.lint.metrics import count_file, count_fix
from app.plugins.lint.models import BIND
from app.plugins.lint.options import LintOptions, Wish, check_wish, resolve
from app.plugins.lint.processing import FileNotKnownError, FileProcessor
from app.plugins.lint.profiles import RAW
from app.plugins.lint.sandbox import sandboxes
from app.plugins.lint.schemas import (
    ExpansionSummary,
    FailOn,
    FixDocument,
    LintDocument,
    ProfileName,
)
from app.plugins.lint.settings import LintSettings
from app.plugins.lint.stored_profiles import find_profile
from app.plugins.lint.tidying import Tidied, Tidying
from app.tasks.errors import RunCancelled
from app.tasks.results import StoredResult

# One SQL text or file does not wait behind the files of an archive.
SINGLE_QUEUE = "lint"
BATCH_QUEUE = "lint_batch"
FIX_QUEUE = "lint_fix"
_ATTEMPTS = 5
_TIDY_SECONDS = 300
# To lint a text of less characters twice costs no more than to tell others that it is linted.
_SMALL_TEXT = 1000

Dialect = Annotated[str, AfterValidator(check_dialect)]
Rule = Annotated[str, AfterValidator(check_rule)]
Rules = Annotated[list[Rule], Field(max_length=500)]
FileName = Annotated[str, Field(min_length=1, max_length=255)]


@register_task(
    "lint.sql",
    queue=SINGLE_QUEUE,
    # Somebody waits: a worker keeps a process free for runs of high priority.
    priority=7,
    max_attempts=3,
    timeout_seconds=120,
    # Nobody repairs and replays a text that somebody is waiting for; its run keeps the error.
    on_failure="discard",
)
def lint_sql(  # noqa: PLR0913, PLR0917 - its parameters are the task's, and go by name
    ctx: TaskContext,
    sql: str,
    dialect: Dialect | None = None,
    rules: Rules | None = None,
    exclude_rules: Rules | None = None,
    templater: str | None = None,
    profile: ProfileName | None = None,
    fail_on: FailOn | None = None,
    file_name: FileName = "query.sql",
) -> LintDocument:
    """Lint one SQL text and return the violations.

    The text is rendered as a template only with a templater that the server's settings define;
    directives in it cannot load code, read files or lift a limit. An empty list of rules means
    SQLFluff's default rules. What stands beside a stored profile counts more than what it says.
    """
    wish = _wish(dialect, rules, exclude_rules, fail_on)
    options = _options(ctx, replace(wish, templater=templater), profile)
    linter = _linter(ctx, in_turn=len(sql) < _SMALL_TEXT)
    report = linter.lint_text(sql, options.profile, file_name=file_name)
    count_file(report.outcome, cached=report.cached)
    if report.known is None:
        raise lint_failure(report.outcome, report.message)
    head = head_of(file_name, options, judge(report, options.policy))
    return LintDocument.model_validate_json(document_of(report.known, head))


@register_task(
    "lint.fix_sql",
    queue=FIX_QUEUE,
    max_attempts=2,
    timeout_seconds=300,
    on_failure="discard",
)
def fix_sql(  # noqa: PLR0917 - its parameters are the task's, and go by name
    ctx: TaskContext,
    sql: str,
    dialect: Dialect | None = None,
    rules: Rules | None = None,
    exclude_rules: Rules | None = None,
    profile: ProfileName | None = None,
    fail_on: FailOn | None = None,
    file_name: FileName = "query.sql",
) -> FixDocument:
    """Fix one SQL text and return a unified diff.

    The text is fixed by SQLFluff, then linted again. It is refused when it has syntax errors, or
    would have some after the fix. Templates are not rendered: braces are SQL.
    """
    wish = _wish(dialect, rules, exclude_rules, fail_on)
    options = _options(ctx, replace(wish, templater=RAW), profile)
    settings = _settings(ctx)
    sandbox = sandboxes(settings.sandbox_limits()).lint
    # Somebody waits for it, but not as for a lint: it gives way like the files of archives.
    fix = partial(sandbox, niceness=settings.batch_niceness, fix=True)
    try:
        document = Fixer(settings, fix).fix(sql, options, file_name)
    except LintFailed as error:
        count_fix("refused" if isinstance(error, LintFixRefused) else "failed")
        raise
    count_fix("changed" if document["changed"] else "unchanged")
    return FixDocument.model_validate(document)


@register_task(
    "lint.process_sql_file",
    queue=SINGLE_QUEUE,
    max_attempts=_ATTEMPTS,
    timeout_seconds=180,
    # What could not be linted is kept, with its reason, in the file's row.
    on_failure="discard",
)
def process_sql_file(ctx: TaskContext, task_id: str) -> StoredResult:
    """Lint one file of a job, store its result and update the job.

    The result is the stored document. A file of which no statement could be parsed has one, too,
    and counts as failed in its job; a file without a document fails this run.
    """
    # Beside the files of an archive the machine does what somebody waits for first.
    is_batch = ctx.queue == BATCH_QUEUE
    linter = _linter(ctx, is_batch=is_batch, in_turn=is_batch)
    processor = FileProcessor(installed(), ctx.storage, linter)
    try:
        end = processor.process(task_id)
    except FileNotKnownError:
        message = f"There is no file task '{task_id}'."
        raise LintJobNotKnown(message) from None
    except Exception as error:
        if ctx.attempt >= _ATTEMPTS:
            reason = type(error).__name__
            processor.give_up(task_id, f"The file could not be linted: {reason}. Try again later.")
        raise
    if end.result_file_path is None:
        raise lint_failure(end.outcome, end.error_message)
    return StoredResult(key=end.result_file_path)


@register_task(
    "lint.expand_zip_and_dispatch_tasks",
    queue=BATCH_QUEUE,
    # Ahead of the files of earlier archives: users see what is in theirs while they wait.
    priority=7,
    max_attempts=_ATTEMPTS,
    timeout_seconds=600,
)
def expand_zip_and_dispatch_tasks(ctx: TaskContext, job_id: str) -> ExpansionSummary:
    """Read the ZIP archive of a job and start the lint of each SQL file in it.

    A broken archive, or one without SQL files, ends the job as FAILED with a message. A
    refused member is reported in the job while the others are linted.
    """

    def progress(current: int, total: int) -> None:
        ctx.raise_if_cancelled()
        ctx.progress(current, total, "reading the archive")

    settings = _settings(ctx)
    known_lints = KnownLints(ctx.cache, settings)
    expander = ArchiveExpander(installed(), ctx.storage, settings, known_lints, progress)
    try:
        expansion = expander.expand(job_id)
    except JobNotKnownError:
        message = f"There is no lint job '{job_id}'."
        raise LintJobNotKnown(message) from None
    except RunCancelled:
        expander.fail(job_id, "The job was cancelled.")
        raise
    except Exception as error:
        if ctx.attempt >= _ATTEMPTS:
            reason = type(error).__name__
            expander.fail(job_id, f"The archive could not be read: {reason}. Submit it again.")
        raise
    for task_id, key in expansion.known.items():
        ctx.submit_known(
            "lint.process_sql_file",
            {"task_id": task_id},
            result=StoredResult(key=key),
            task_id=task_id,
            queue=BATCH_QUEUE,
            labels={"job_id": job_id},
        )
    for task_id in expansion.task_ids:
        ctx.submit(
            "lint.process_sql_file",
            {"task_id": task_id},
            task_id=task_id,
            queue=BATCH_QUEUE,
            labels={"job_id": job_id},
        )
    return ExpansionSummary(
        job_id=job_id,
        status=expansion.status.value,
        files=expansion.files,
        rejected=expansion.rejected,
        ignored=expansion.ignored,
    )


@register_task(
    "lint.tidy_jobs",
    # Ahead of the files of archives, on their processes.
    queue=BATCH_QUEUE,
    priority=7,
    max_attempts=1,
    timeout_seconds=300,
    on_failure="discard",
    retention_days=1,
    schedule=Schedule(interval_seconds=_TIDY_SECONDS, misfire="skip", overlap="skip"),
)
async def tidy_jobs(ctx: TaskContext) -> Tidied:
    """Close the jobs that a crash has left open, and delete those past their retention."""
    return await Tidying(installed(), ctx.storage, _settings(ctx)).tidy()


def _settings(ctx: TaskContext) -> LintSettings:
    settings = ctx.plugin_settings
    return settings if isinstance(settings, LintSettings) else LintSettings()


def _wish(
    dialect: str | None,
    rules: list[str] | None,
    exclude_rules: list[str] | None,
    fail_on: str | None,
) -> Wish:
    return Wish(
        dialect=dialect,
        rules=None if rules is None else tuple(rules),
        exclude_rules=None if exclude_rules is None else tuple(exclude_rules),
        fail_on=fail_on,
    )


def _options(ctx: TaskContext, wish: Wish, profile: str | None) -> LintOptions:
    """Return what a text's parameters ask for; LintOptionUnknown for names that do not exist."""
    settings, stored = _settings(ctx), {}
    try:
        if profile is not None:
            with installed().sync_transaction(BIND) as session:
                found = find_profile(session, ctx.tenant, profile)
                stored = {"profile_name": found.name, "profile_version": found.version}
                wish = wish.over(Wish.from_json(found.wish))
        return resolve(check_wish(wish, settings), settings, **stored)
    except (LintProfileNotFound, LintFieldInvalid) as error:
        raise LintOptionUnknown(error.detail) from None


def _linter(ctx: TaskContext, *, is_batch: bool = False, in_turn: bool) -> Linter:
    settings = _settings(ctx)
    niceness = settings.batch_niceness if is_batch else 0
    sandbox = partial(sandboxes(settings.sandbox_limits()).lint, niceness=niceness)
    return Linter(settings, sandbox, KnownLints(ctx.cache, settings, in_turn=in_turn))
