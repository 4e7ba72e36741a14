"""`taskyard dead-letters`: what failed for good, run again or put aside, through the API."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, cast

import typer

from app.cli.dead_letter_options import (
    All,
    DryRun,
    ErrorType,
    LetterId,
    Limit,
    OneOrFilter,
    Origin,
    Queue,
    Since,
    Task,
    Yes,
)
from app.cli.exit_codes import ExitCode
from app.cli.failures import CommandError, Failure, suggesting, usage_error
from app.cli.options import DEFAULT_URL, Output, Token, Url, examples
from app.cli.output import Record, print_record, print_rows, progress
from app.cli.params import read_document
from app.common.ids import parse_id

if TYPE_CHECKING:
    from app.cli.dead_letter_client import Counted, DeadLetterClient, DeadLetterFilters

_LIST = ("id", "state", "task", "error_type", "queue", "attempts", "created_at")
_GROUPS = ("task", "error_type", "origin", "count", "replayed", "first_seen", "last_seen")
_HIDDEN = ("links",)
_EXAMPLE_ID = "01890a5d-ac96-774b-bcce-b302099a8057"

commands = typer.Typer(
    no_args_is_help=True, help="Look at what failed for good, run it again, put it aside."
)


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(commands, name="dead-letters")


@commands.command(
    "list",
    epilog=examples(
        "taskyard dead-letters list --task lint.sql --since 2026-01-31T00:00:00Z",
        "taskyard dead-letters list --state discarded -o jsonl --limit 1000",
    ),
)
def list_letters(  # noqa: PLR0913 - each one is an option of the command
    *,
    task: Task = None,
    queue: Queue = None,
    error_type: ErrorType = None,
    origin: Origin = None,
    since: Since = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            help="open, replayed or discarded. Repeatable; without it all but discarded.",
            show_default=False,
        ),
    ] = None,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """List dead letters, newest first."""
    filters = _filters(task, queue, error_type, origin, since)
    with _client(url, token) as client:
        letters = list(client.letters(filters, [one.lower() for one in state or ()], limit))
    print_rows(cast("list[Record]", letters), _LIST, output)


@commands.command("groups", epilog=examples("taskyard dead-letters groups --queue default"))
def list_groups(  # noqa: PLR0913 - each one is an option of the command
    *,
    task: Task = None,
    queue: Queue = None,
    error_type: ErrorType = None,
    origin: Origin = None,
    since: Since = None,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Count dead letters by task, error and origin, the newest group first."""
    filters = _filters(task, queue, error_type, origin, since)
    with _client(url, token) as client:
        groups = list(client.groups(filters, limit))
    print_rows(groups, _GROUPS, output)


@commands.command("show", epilog=examples(f"taskyard dead-letters show {_EXAMPLE_ID}"))
def show_letter(
    letter_id: LetterId, *, url: Url = DEFAULT_URL, token: Token = None, output: Output = None
) -> None:
    """Show a dead letter: error, message, history, run and replays."""
    with _client(url, token) as client:
        letter = client.letter(_checked(letter_id))
    print_record(cast("Record", letter), output, without=_HIDDEN)


@commands.command(
    "replay",
    epilog=examples(
        f"taskyard dead-letters replay {_EXAMPLE_ID} --params @params.json",
        "taskyard dead-letters replay --task lint.sql --error-type TimeoutError --dry-run",
        "taskyard dead-letters replay --task lint.sql --rate 10 --reason 'the disk is mended'",
    ),
)
def replay(  # noqa: PLR0913 - each one is an option of the command
    letter_id: OneOrFilter = None,
    *,
    params: Annotated[
        str | None,
        typer.Option(
            "--params",
            metavar="JSON|@FILE|-",
            help="Other parameters, for one letter: in place, in a file, or on standard input.",
            show_default=False,
        ),
    ] = None,
    task: Task = None,
    queue: Queue = None,
    error_type: ErrorType = None,
    origin: Origin = None,
    since: Since = None,
    everything: All = False,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="PER_SECOND",
            min=0,
            help="Let so many runs start a second; without it all at once.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option("--reason", help="Why, for the audit log.", show_default=False),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Run one letter again, perhaps with other parameters, or all that the filters name."""
    filters = _filters(task, queue, error_type, origin, since)
    _check_choice(letter_id, filters, everything=everything)
    if letter_id is not None:
        _refuse(letter_id, {"--rate": rate is not None, "--dry-run": dry_run})
        edited = None if params is None else read_document(params, option="--params")
        with _client(url, token, letter_id) as client:
            run = client.replay(_checked(letter_id), edited, reason)
        print_record(cast("Record", run), output, without=_HIDDEN)
        return
    if params is not None:
        raise usage_error("--params is for one letter.", hint="Name it by its id.")

    def run_again(client: "DeadLetterClient", *, dry_run: bool) -> "Counted":
        return client.replay_all(filters, rate_per_second=rate, reason=reason, dry_run=dry_run)

    with _client(url, token) as client:
        _act(client, "Replay", run_again, output, dry_run=dry_run, yes=yes)


@commands.command(
    "discard",
    epilog=examples(
        f"taskyard dead-letters discard {_EXAMPLE_ID} --reason 'sent by mistake'",
        "taskyard dead-letters discard --origin broker --reason garbage --dry-run",
    ),
)
def discard(  # noqa: PLR0913 - each one is an option of the command
    letter_id: OneOrFilter = None,
    *,
    reason: Annotated[
        str | None,
        typer.Option("--reason", help="Why, for the audit log.", show_default=False),
    ] = None,
    task: Task = None,
    queue: Queue = None,
    error_type: ErrorType = None,
    origin: Origin = None,
    since: Since = None,
    everything: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    output: Output = None,
) -> None:
    """Put one letter aside, or all that the filters name; they are kept and leave the lists."""
    filters = _filters(task, queue, error_type, origin, since)
    _check_choice(letter_id, filters, everything=everything)
    if letter_id is not None:
        _refuse(letter_id, {"--dry-run": dry_run})
        with _client(url, token) as client:
            client.discard(_checked(letter_id), reason)
            letter = client.letter(_checked(letter_id))
        print_record(cast("Record", letter), output, without=_HIDDEN)
        return

    def put_aside(client: "DeadLetterClient", *, dry_run: bool) -> "Counted":
        return client.discard_all(filters, reason=reason, dry_run=dry_run)

    with _client(url, token) as client:
        _act(client, "Discard", put_aside, output, dry_run=dry_run, yes=yes)


def _act(
    client: "DeadLetterClient",
    verb: str,
    act: "Callable[..., Counted]",
    output: Output,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Do what the filters name, on a terminal after a question that tells how many there are."""
    if not yes and not dry_run and sys.stdin.isatty():
        count = act(client, dry_run=True)["count"]
        letters = "dead letter" if count == 1 else "dead letters"
        if count:
            typer.confirm(f"{verb} {count} {letters}?", abort=True, err=True)
    done = act(client, dry_run=dry_run)
    for code, count in (done.get("skipped") or {}).items():
        progress(f"skipped {count}: {code}")
    print_record(cast("Record", done), output, without=_HIDDEN)


@contextmanager
def _client(
    url: str, token: str | None, letter_id: str | None = None
) -> "Iterator[DeadLetterClient]":
    from app.cli.dead_letter_client import READ_TIMEOUT_SECONDS, DeadLetterClient

    show = f"taskyard dead-letters show {letter_id}"
    about_letter = ("DEAD_LETTER_REPLAYED", "DEAD_LETTER_DISCARDED", "DEAD_LETTER_HAS_NO_RUN")
    suggestions = dict.fromkeys(about_letter, show) if letter_id is not None else {}
    suggestions |= {
        "DEAD_LETTER_NOT_FOUND": "taskyard dead-letters list",
        "DEAD_LETTER_TASK_NOT_REGISTERED": "taskyard tasks list",
    }
    with (
        suggesting(suggestions),
        DeadLetterClient(url, token, read_timeout_seconds=READ_TIMEOUT_SECONDS) as client,
    ):
        yield client


def _filters(
    task: str | None,
    queue: str | None,
    error_type: str | None,
    origin: str | None,
    since: str | None,
) -> "DeadLetterFilters":
    from app.cli.dead_letter_client import DeadLetterFilters

    return DeadLetterFilters(
        task=task, queue=queue, error_type=error_type, origin=origin, since=since
    )


def _check_choice(letter_id: str | None, filters: "DeadLetterFilters", *, everything: bool) -> None:
    """Refuse a call that names nothing, or more than one thing at a time."""
    named = [letter_id is not None, bool(filters.given()), everything]
    if not any(named):
        raise usage_error(
            "Name a letter by its id, or letters by a filter.", hint="All of them: --all"
        )
    if sum(named) > 1:
        raise usage_error("Give an id, or filters, or --all: one of them.")


def _refuse(letter_id: str, options: dict[str, bool]) -> None:
    for option, is_given in options.items():
        if is_given:
            raise usage_error(f"{option} is for filters, and '{letter_id[:80]}' is one letter.")


def _checked(letter_id: str) -> str:
    # Anything else would be a step to another resource ("groups") or a page of errors.
    try:
        return parse_id(letter_id)
    except ValueError:
        raise CommandError(
            Failure(
                code="DEAD_LETTER_NOT_FOUND",
                detail=f"'{letter_id[:80]}' is not the id of a dead letter.",
                exit_code=ExitCode.NOT_FOUND,
            )
        ) from None
