"""`taskyard lint`: lint a file, a folder or an archive through the service."""

import json
import shutil
import sys
import tempfile
import textwrap
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
from app.cli.text import json_safe, printable

if TYPE_CHECKING:
    from app.cli.lint_client import LintClient

_PAUSE_SECONDS = 0.2
_BAR_WIDTH = 20
_UNFOLDED_WIDTH = 10_000


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
        )
    )(lint)


def lint(
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
    form: Annotated[
        LintFormat, typer.Option("--format", "-f", help="Form of the output.")
    ] = LintFormat.TABLE,
    fail_on: Annotated[
        FailOn,
        typer.Option(
            "--fail-on", help="Exit 1 for this and worse; syntax errors and lost files are errors."
        ),
    ] = FailOn.WARNING,
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
    """Lint SQL: exit 0 when it is fine, 1 when something was found.

    Of a folder, the .sql files are sent as an archive; hidden ones and links are left out.
    """
    from app.cli.lint_sources import read_source

    source = read_source(path)
    if source.left_out:
        progress(source.left_out)
    chosen = {"dialect": dialect, "rules": rules, "exclude_rules": exclude_rules}
    options = {name: value for name, value in chosen.items() if value}
    with _client(url, token) as client:
        job_id = client.upload(source.name, source.data, options)
        _follow(client, job_id)
        text = client.report(job_id, "json")
        document = json.loads(text)
        if form in {LintFormat.SARIF, LintFormat.GITHUB}:
            text = client.report(job_id, form.value)
    if form is LintFormat.TABLE:
        _print_table(document)
    else:
        safe = printable(text) if form is LintFormat.GITHUB else json_safe(text)
        print(safe, end="", flush=True)
    _require_passed(document, fail_on)


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


def _print_table(document: dict[str, Any]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNFOLDED_WIDTH
    for file in document["files"]:
        lines = list(_lines_of(file, width))
        if lines:
            print(printable(file["file_name"]), *lines, "", sep="\n")
    if document["job"]["error_message"]:
        print(printable(document["job"]["error_message"]))
    figures = document["summary"]
    print(
        f"{figures['files']} files, {figures['violations']} violations, {figures['failed']} failed",
        flush=True,
    )


def _lines_of(file: dict[str, Any], width: int) -> Iterator[str]:
    from app.plugins.lint.wording import description_of

    if file["status"] == "FAILURE" and not file["violations"]:
        yield from _folded(f"  {file['outcome']:<12}", file["error_message"] or "", width)
    for one in file["violations"]:
        place = f"{one['start_line_no']}:{one['start_line_pos']}"
        yield from _folded(f"  {place:>7}  {one['code']:<5}", description_of(one), width)


def _folded(start: str, text: str, width: int) -> Iterator[str]:
    indent = " " * (len(start) + 1)
    yield from textwrap.wrap(
        printable(text),
        width,
        initial_indent=f"{start} ",
        subsequent_indent=indent,
        drop_whitespace=True,
    ) or [start]


def _require_passed(document: dict[str, Any], fail_on: FailOn) -> None:
    """Raise CommandError for findings that are as bad as the threshold, and for lost archives."""
    levels = [level.value for level in FailOn]
    by_level = document["summary"]["by_level"]
    counted = {
        level: by_level[level]
        for level in levels[: levels.index(fail_on) + 1]
        if by_level.get(level)
    }
    nothing_linted = document["job"]["error_message"]
    if fail_on is FailOn.NEVER or not (counted or nothing_linted):
        return
    told = ", ".join(f"{count} {level}{'s' * (count > 1)}" for level, count in counted.items())
    detail = f"The SQL did not pass: {told or nothing_linted}"
    raise CommandError(
        Failure(
            code="LINT_NOT_PASSED",
            detail=detail.rstrip(".") + ".",
            exit_code=ExitCode.FAILED,
            next_command="taskyard lint --help",
        )
    )
