"""A member's name: decoded strictly, and refused when it is more than a plain relative path."""

import re
import unicodedata
import zlib

from app.storage.zip_directory import Entry
from app.storage.zip_errors import MemberRefused
from app.storage.zip_extra import UNICODE_PATH
from app.storage.zip_limits import ZipLimits

_IS_UTF8 = 1 << 11
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})
_INVISIBLE = frozenset({"Cf"})
_SHOWN_LENGTH = 200
_UNICODE_PATH_HEADER = 5
JUNK_NAMES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
JUNK_FOLDER = "__MACOSX"


def shown_name(raw: bytes) -> str:
    """Return the name as text that is safe in a log, a terminal and a message."""
    safe = raw[: 4 * _SHOWN_LENGTH].decode("utf-8", "backslashreplace")
    if not safe.isprintable():
        safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in safe)
    return safe if len(safe) <= _SHOWN_LENGTH else f"{safe[:_SHOWN_LENGTH]}..."


def decode_name(entry: Entry) -> str:
    """Return the name as text; MemberRefused when it cannot be decoded or means two things."""
    name = _decode(entry.raw_name, utf8=bool(entry.flags & _IS_UTF8))
    field = entry.extra.get(UNICODE_PATH)
    return name if field is None else _unicode_path(entry.raw_name, name, field)


def check_name(name: str, limits: ZipLimits) -> None:
    """Raise MemberRefused unless the name is a plain relative path with forward slashes."""
    _check_characters(name)
    if len(name.encode()) > limits.max_name_bytes:
        raise MemberRefused("NAME_TOO_LONG", "Its path is too long; shorten it.")
    if "\\" in name:
        raise MemberRefused(
            "NAME_BACKSLASH", "Its name has backslashes; pack it with forward slashes."
        )
    if name.startswith("/"):
        raise MemberRefused("NAME_ABSOLUTE", "Its path is absolute; pack relative paths.")
    if _DRIVE.match(name):
        raise MemberRefused("NAME_DRIVE", "Its path names a drive; pack relative paths.")
    parts = name.removesuffix("/").split("/")
    if ".." in parts:
        raise MemberRefused("NAME_TRAVERSAL", "Its path leads out of the archive's folder.")
    if "" in parts or "." in parts:
        raise MemberRefused("NAME_NOT_NORMAL", "Its path has empty or '.' parts.")
    if len(parts) > limits.max_depth:
        raise MemberRefused("NAME_TOO_DEEP", f"It lies more than {limits.max_depth} folders deep.")
    if any(len(part.encode()) > limits.max_part_bytes for part in parts):
        raise MemberRefused("NAME_TOO_LONG", "A part of its path is too long; shorten it.")


def comparable(name: str) -> str:
    """Return the name as a file system that ignores case and composition would see it."""
    return unicodedata.normalize("NFC", name.removesuffix("/")).casefold()


def hidden_reason(name: str, *, skip_hidden: bool) -> str | None:
    """Return why a member is left out without being bad, None when it is not."""
    parts = name.split("/")
    if parts[0] == JUNK_FOLDER or parts[-1].casefold() in JUNK_NAMES:
        return "SYSTEM_FILE"
    if skip_hidden and any(part.startswith(".") for part in parts):
        return "HIDDEN_FILE"
    return None


def _decode(raw: bytes, *, utf8: bool) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if utf8:
            raise MemberRefused(
                "NAME_NOT_UTF8", "Its name is marked as UTF-8 but is not."
            ) from None
    # The format's own old code page; it knows every byte, so the name is at least stable.
    return raw.decode("cp437")


def _unicode_path(raw: bytes, name: str, field: bytes) -> str:
    """Return Info-ZIP's UTF-8 name, which may stand beside a name in an old code page only."""
    other = MemberRefused("NAME_AMBIGUOUS", "It carries two different names.")
    if len(field) < _UNICODE_PATH_HEADER or field[0] != 1:
        raise other
    try:
        wide = field[_UNICODE_PATH_HEADER:].decode("utf-8")
    except UnicodeDecodeError:
        raise other from None
    fits = int.from_bytes(field[1:5], "little") == zlib.crc32(raw)
    if wide != name and (raw.isascii() or not fits):
        raise other
    return wide


def _check_characters(name: str) -> None:
    if not name or name == "/":
        raise MemberRefused("NAME_EMPTY", "It has no name.")
    # What is printable has none of the categories below; to ask once is to ask in C.
    if name.isprintable():
        return
    categories = {unicodedata.category(character) for character in set(name)}
    if categories & _CONTROL:
        raise MemberRefused("NAME_CONTROL_CHARACTER", "Its name holds control characters.")
    if categories & _INVISIBLE:
        raise MemberRefused(
            "NAME_INVISIBLE_CHARACTER",
            "Its name holds invisible characters, such as marks that turn the reading direction.",
        )
