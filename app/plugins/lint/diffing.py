"""What was changed in a text, line by line."""

import difflib
from collections.abc import Iterator

BOM = "\ufeff"
_NO_LINE_END = "\\ No newline at end of file\n"


def unified_diff(before: str, after: str) -> str:
    """Return the hunks of a unified diff, as `patch` and `git apply` read them behind two names."""
    lines = difflib.unified_diff(list(_lines(before)), list(_lines(after)))
    # The first two lines are for names, which the caller knows.
    return "".join(_ended(line) for number, line in enumerate(lines) if number > 1)


def with_line_ends_of(original: str, changed: str) -> str:
    """Return the changed text with the line ends of the original, if those are all CRLF."""
    if "\r\n" not in original or "\n" in original.replace("\r\n", ""):
        return changed
    return changed.replace("\r\n", "\n").replace("\n", "\r\n")


def _lines(text: str) -> Iterator[str]:
    # For the programs that read a diff only this ends a line; Python knows more line ends.
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n{_NO_LINE_END}"
