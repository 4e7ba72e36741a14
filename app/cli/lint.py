"""`taskyard lint`: lint a file, a folder or an archive through the service."""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.exit_codes import ExitCode
from app.cli.failures import CommandError, Failure
from app.cli.options import Token, examples
from app.cli.output import live_progress, progress
from app.cli.text import json_safe, plural, printable

if TYPE_CHECKING:
    from app.cli.lint_client import LintClient

_PAUSE_SECONDS = 0.2
_BAR_WIDTH = 20


class LintFormat(StrEnum):
    """The forms of the output."""

    TABLE = "table"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


class FailOn(StrEnum):
    """What makes the command end with 1, and all that is worse."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    NEVER = "never"


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command(
        epilog=examples(
            "taskyard lint queries/ --dialect postgres",
            "taskyard lint report.sql --exclude-rules LT05,ST06",
            "taskyard lint . --format github --fail-on error",
            "taskyard lint . --url https://taskyard.example --profile shop --baseline job-…",
        )
    )(lint)


def lint(  # noqa: PLR0913 - its parameters are the command's
    path: Annotated[
        Path, typer.Argument(help="A .sql file, a .zip of them, or a folder.", show_default=False)
    ],
    *,
    dialect: Annotated[
        str | None, typer.Option("--dialect", help="The dialect of SQL.", show_default=False)
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option("--rules", help="Only these rules, by comma.", show_default=False),
    ] = None,
    exclude_rules: Annotated[
        str | None,
        typer.Option("--exclude-rules", help="Not these rules, by comma.", show_default=False),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="A stored profile of the service.", show_default=False),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="JOB",
            help="An earlier job: only what is new since then counts, and is shown.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        LintFormat, typer.Option("--format", "-f", help="Form of the output.")
    ] = LintFormat.TABLE,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(
            "--fail-on",
            help="Exit 1 for this and worse; without it as the profile says, else warning.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            envvar="TASKYARD_URL",
            metavar="URL",
            help="Address of the service; without one the command is its own service.",
            show_default=False,
        ),
    ] = None,
    token: Token = None,
) -> None:
    """Lint SQL: exit 0 when it passes, 1 when it does not.

    Of a folder, the .sql files are sent as an archive; hidden ones and links are left out. Syntax
    errors and files that could not be linted are errors, other findings as the profile says.
    """
    from app.cli.lint_findings import print_findings
    from app.cli.lint_sources import read_source

    source = read_source(path)
    if source.left_out:
        progress(source.left_out)
    chosen = {
        "dialect": dialect,
        "rules": rules,
        "exclude_rules": exclude_rules,
        "profile": profile,
        "fail_on": fail_on and fail_on.value,
        "baseline_job_id": baseline,
    }
    options = {name: value for name, value in chosen.items() if value}
    with _client(url, token) as client:
        job_id = client.upload(source.name, source.data, options)
        _follow(client, job_id)
        text = client.report(job_id, "json")
        document = json.loads(text)
        if form in {LintFormat.SARIF, LintFormat.GITHUB}:
            text = client.report(job_id, form.value)
    if form is LintFormat.TABLE:
        print_findings(document)
        if url is not None:
            progress(f"job {job_id}")
    else:
        safe = printable(text) if form is LintFormat.GITHUB else json_safe(text)
        print(safe, end="", flush=True)
    _require_passed(document, has_baseline=baseline is not None)


@contextmanager
def _client(url: str | None, token: str | None) -> Iterator["LintClient"]:
    from app.cli.lint_client import LintClient

    if url is not None:
        with LintClient(url, token) as client:
            yield client
        return
    from app.cli.own_service import own_service

    with (
        tempfile.TemporaryDirectory(prefix="taskyard-lint-") as folder,
        own_service(Path(folder)) as (own_url, own_token),
        LintClient(own_url, own_token) as client,
    ):
        yield client


def _follow(client: "LintClient", job_id: str) -> None:
    """Show how many files are done until the job has ended."""
    tell: Callable[[str], None] = live_progress()
    told = ""
    while True:
        status, ended, total = client.job(job_id)
        bar = _bar(ended, total) if sys.stderr.isatty() else ""
        line = f"{bar}{ended} of {total} files" if total else "reading the archive"
        if line != told:
            tell(line)
            told = line
        if status not in {"ACCEPTED", "PROCESSING"}:
            return
        time.sleep(_PAUSE_SECONDS)


def _bar(ended: int, total: int) -> str:
    done = _BAR_WIDTH * ended // max(1, total)
    return f"[{'#' * done}{'.' * (_BAR_WIDTH - done)}] "


def _require_passed(document: dict[str, Any], *, has_baseline: bool) -> None:
    """Raise CommandError when the service says that the job has not passed."""
    summary, job = document["summary"], document["job"]
    if summary["passed"] or job["fail_on"] == FailOn.NEVER:
        return
    counted = [plural(count, level) for level, count in summary["by_level"].items() if count]
    told = f"{summary['new']} new" if has_baseline else ", ".join(counted)
    detail = f"The SQL did not pass (fail_on: {job['fail_on']}): {job['error_message'] or told}"
    raise CommandError(
        Failure(
            code="LINT_NOT_PASSED",
            detail=detail.rstrip(".") + ".",
            exit_code=ExitCode.FAILED,
            next_command="taskyard lint --help",
        )
    )
