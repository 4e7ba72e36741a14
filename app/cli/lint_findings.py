"""The findings of a lint job for people: file by file, with the figures in the last line."""

import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from app.cli.text import plural, printable

if TYPE_CHECKING:
    from rich.text import Text

# Without a terminal nothing is folded: a finding is a line of the output.
_UNFOLDED_WIDTH = 10_000
_LETTERS = {"error": "E", "warning": "W", "note": "N"}
_STYLES = {"error": "red", "warning": "yellow", "note": "dim"}
_RULES_SHOWN = 8


def print_findings(document: Mapping[str, Any]) -> None:
    """Print what a job's JSON report says; of a job with a baseline only what is new."""
    from rich.console import Console
    from rich.text import Text

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNFOLDED_WIDTH
    console = Console(
        file=sys.stdout, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True
    )
    shown: Counter[str] = Counter()
    for file in document["files"]:
        lines = list(_lines_of(file, width, shown))
        if lines:
            console.print(Text(printable(file["file_name"]), style="bold"), *lines, "", sep="\n")
    if document["job"]["error_message"]:
        console.print(printable(document["job"]["error_message"]), style="red")
    for line in _rules(shown, width):
        console.print(line)
    console.print(_figures(document["summary"]))


def _lines_of(file: Mapping[str, Any], width: int, shown: Counter[str]) -> Iterator["Text"]:
    from app.plugins.lint.wording import description_of

    fresh = file.get("is_new")
    if not file["violations"] and file["status"] == "FAILURE" and file.get("new", 1):
        yield from _folded("", "error", file["outcome"], file["error_message"] or "", width)
    for place, one in enumerate(file["violations"]):
        if fresh is None or fresh[place]:
            shown[one["code"]] += 1
            where = f"{one['start_line_no']}:{one['start_line_pos']}"
            severity = file["severities"][place]
            yield from _folded(where, severity, one["code"], description_of(one), width)


def _folded(where: str, severity: str, code: str, description: str, width: int) -> Iterator["Text"]:
    """Yield the lines of a finding; the text behind its place and code is folded."""
    from rich.text import Text

    start = f"  {where:>7}  {_LETTERS[severity]} {printable(code):<4}  "
    folded = textwrap.wrap(
        printable(description),
        width,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        drop_whitespace=True,
    )
    for number, line in enumerate(folded or [start.rstrip()]):
        text = Text(line)
        if number == 0:
            text.stylize("dim", 0, 10)
            text.stylize(_STYLES[severity], 10, len(start))
        yield text


def _rules(shown: Counter[str], width: int) -> list[str]:
    if len(shown) < 2:
        return []
    most = [f"{printable(code)} {count}" for code, count in shown.most_common(_RULES_SHOWN)]
    more = len(shown) - len(most)
    told = "rules: " + ", ".join(most) + (f" and {more} more" if more > 0 else "")
    return textwrap.wrap(told, width, subsequent_indent="       ")


def _figures(summary: Mapping[str, Any]) -> str:
    figures = [
        plural(summary["files"], "file"),
        plural(summary["violations"], "violation"),
        f"{summary['failed']} failed",
    ]
    if "new" in summary:
        figures += [f"{summary[name]} {name}" for name in ("new", "fixed", "unchanged")]
    return ", ".join(figures)
