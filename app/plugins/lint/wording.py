"""SQLFluff's messages in fewer words."""

from collections.abc import Mapping
from typing import Any

# What SQLFluff reports when it could not read the text; its rules have other codes.
SYNTAX_CODES = frozenset({"PRS", "LXR", "TMP"})


def description_of(violation: Mapping[str, Any]) -> str:
    """Return the description in one line; of a syntax error without its place, which stands beside
    it, and without the names of SQLFluff's grammar.
    """
    text = " ".join(str(violation["description"]).split())
    if violation["code"] not in SYNTAX_CODES:
        return text
    line, position = violation["start_line_no"], violation["start_line_pos"]
    return text.removeprefix(f"Line {line}, Position {position}: ").partition(" Expected: ")[0]
