"""Text for a terminal: what a task or a server wrote must not steer it."""

import re

# Control characters other than tab and line feed (escape sequences begin with one), marks that
# turn the direction of what follows, and lone surrogates, which no encoding can write.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return the text with every character that could steer a terminal written out."""
    return _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def json_safe(document: str) -> str:
    """Return the JSON document with such characters as JSON escapes; its value is the same."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", document)


def plural(count: int, noun: str) -> str:
    """Return the number with the noun behind it: "1 file", "2 files"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
