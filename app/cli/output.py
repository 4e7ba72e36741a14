"""What a command prints: a table for people, JSON or JSON Lines for programs."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from app.cli.text import json_safe, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Record = Mapping[str, Any]

# Without a terminal nothing is folded: a line of a table is a line of the output.
_UNFOLDED_WIDTH = 10_000
# One line up, and that line emptied.
_TAKE_BACK = "\x1b[1A\x1b[2K"
_STYLES = {
    "SUCCEEDED": "green",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "EXPIRED": "yellow",
    "RETRYING": "yellow",
    "RUNNING": "cyan",
}


class OutputFormat(StrEnum):
    """The forms of a command's output."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def chosen_format(asked: OutputFormat | None) -> OutputFormat:
    """Return what was asked for, else a table on a terminal and JSON anywhere else."""
    if asked is not None:
        return asked
    return OutputFormat.TABLE if sys.stdout.isatty() else OutputFormat.JSON


def print_rows(rows: Sequence[Record], columns: Sequence[str], output: OutputFormat | None) -> None:
    """Print a list: a table of the columns, a JSON array of the records, or one record a line."""
    match chosen_format(output):
        case OutputFormat.JSON:
            print_json(list(rows))
        case OutputFormat.JSONL:
            for row in rows:
                _print_line(row)
        case OutputFormat.TABLE:
            _print_table(rows, columns)


def print_record(
    record: Record, output: OutputFormat | None, *, without: Sequence[str] = ()
) -> None:
    """Print one record; the table leaves out the fields in `without` and those without a value."""
    match chosen_format(output):
        case OutputFormat.JSON:
            print_json(record)
        case OutputFormat.JSONL:
            _print_line(record)
        case OutputFormat.TABLE:
            _print_fields({key: value for key, value in record.items() if key not in without})


def print_json(document: object) -> None:
    """Print the document as indented JSON."""
    _write(_dump(document, indent=2))


def print_line(line: str) -> None:
    """Print a line for people."""
    _write(printable(line))


def progress(message: str) -> None:
    """Tell on standard error what is going on."""
    print(printable(message), file=sys.stderr, flush=True)


def live_progress() -> Callable[[str], None]:
    """Return what tells on standard error how one thing goes on: a terminal has one line, which is
    drawn again each time, anything else gets a line each time.
    """
    if not sys.stderr.isatty():
        return progress
    drawn = False

    def draw(message: str) -> None:
        nonlocal drawn
        # A line that wraps could not be taken back.
        line = printable(message)[: max(20, shutil.get_terminal_size().columns - 1)]
        print(f"{_TAKE_BACK if drawn else ''}{line}", file=sys.stderr, flush=True)
        drawn = True

    return draw


def _print_line(record: Record) -> None:
    _write(_dump(record, separators=(",", ":")))


def _dump(document: object, **options: Any) -> str:
    # A terminal or a file that is not UTF-8 gets escapes, which every reader of JSON knows.
    ascii_only = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") != "utf8"
    return json_safe(json.dumps(document, ensure_ascii=ascii_only, default=str, **options))


def _write(line: str) -> None:
    print(line, flush=True)


def _print_table(rows: Sequence[Record], columns: Sequence[str]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column), _one_line) for column in columns))
    _console().print(table)


def _print_fields(record: Record) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(overflow="fold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in record.items():
        if value not in (None, "", [], {}):
            table.add_row(Text(key.replace("_", " "), style="bold"), _cell(value, _many_lines))
    _console().print(table)


def _console() -> "Console":
    from rich.console import Console

    width = None if sys.stdout.isatty() else _UNFOLDED_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def _cell(value: object, nested: Callable[[object], str]) -> "Text":
    from rich.text import Text

    if value is None:
        text = ""
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, str):
        text = value
    else:
        text = nested(value)
    return Text(printable(text), style=_STYLES.get(text, ""))


def _one_line(value: object) -> str:
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _many_lines(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str, indent=2)
