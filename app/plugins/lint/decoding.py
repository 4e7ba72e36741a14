"""From the bytes of an SQL file to text.

SQLFluff's own detection guesses by statistics and turns short Latin-1 files into
Hebrew, so the order here is fixed: byte-order mark, strict UTF-8, the encoding that the
file declares, then Windows-1252 with a notice.
"""

import codecs
import re

from app.plugins.lint.directives import Notice

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# A comment of the first two lines, spelled as for Python, Emacs and Vim.
_DECLARED = re.compile(rb"^[ \t]*(?:--|#|/\*).*?coding[:=][ \t]*([-_.a-zA-Z0-9]{1,40})")
_ALLOWED = frozenset(
    codecs.lookup(name).name
    for name in (
        *("utf-8", "latin-1", "iso8859-2", "iso8859-5", "iso8859-7", "iso8859-9", "iso8859-15"),
        *("cp437", "cp850", "cp866", "cp932", "cp936", "cp949", "cp950", "koi8-r", "koi8-u"),
        *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"),
        *("gb2312", "gbk", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "iso2022_jp"),
    )
)

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x01-\x08\x0e-\x1f]")
_SAMPLE = 8192


class NotTextError(ValueError):
    """The bytes are no text: they hold NUL or other control characters."""


def decode(data: bytes) -> tuple[str, str, list[Notice]]:
    """Return the text without byte-order mark, the encoding's name, and notices.

    NotTextError when the bytes are binary, for instance an image with the name of a script.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_marked(data[len(mark) :], encoding)
    try:
        return _checked(data.decode("utf-8")), "utf-8", []
    except UnicodeDecodeError:
        pass
    declared = _declared(data)
    if declared is not None:
        try:
            return _checked(data.decode(declared)), declared, []
        except UnicodeDecodeError:
            pass
    # Five bytes have no meaning in Windows-1252; they become U+FFFD rather than an error.
    text = _checked(data.decode("cp1252", errors="replace"))
    message = "The file is not UTF-8 and declares no encoding; it was read as Windows-1252."
    return text, "cp1252", [Notice("ENCODING_GUESSED", message)]


def check_text(text: str) -> str:
    """Return the text; NotTextError when it holds NUL, lone surrogates or mostly controls."""
    return _checked(text)


def _decode_marked(data: bytes, encoding: str) -> tuple[str, str, list[Notice]]:
    try:
        return _checked(data.decode(encoding)), encoding, []
    except UnicodeDecodeError:
        message = f"The file starts with the mark of {encoding} but is not valid {encoding}."
        raise NotTextError(message) from None


def _declared(data: bytes) -> str | None:
    for line in data.split(b"\n", 2)[:2]:
        found = _DECLARED.match(line)
        if found:
            return _known(found[1].decode("ascii"))
    return None


def _known(name: str) -> str | None:
    try:
        canonical = codecs.lookup(name).name
    except LookupError:
        return None
    return canonical if canonical in _ALLOWED else None


def _checked(text: str) -> str:
    if "\0" in text:
        message = "The file holds NUL bytes: it is binary, not SQL text."
        raise NotTextError(message)
    if _SURROGATE.search(text):
        message = "The text holds lone surrogates, which are no characters."
        raise NotTextError(message)
    sample = text[:_SAMPLE]
    if len(_CONTROL.findall(sample)) * 10 > len(sample):
        message = "The file is mostly control characters: it is binary, not SQL text."
        raise NotTextError(message)
    return text
