"""The end record and the central directory, read by ourselves and to the letter.

`zipfile` takes what it can get: it ignores counts, prefixes, disks and lying
lengths. Two programs then see two different archives in the same bytes, and the
one that checked is not the one that unpacked. Here every length must fit.
"""

import struct
from dataclasses import dataclass

from app.storage.zip_errors import ArchiveRefused
from app.storage.zip_extra import parse_extra, widen
from app.storage.zip_limits import ZipLimits
from app.storage.zip_source import ByteSource

_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_SIGNATURE = b"PK\x06\x07"
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_SIGNATURE = b"PK\x06\x06"
_END64_REST = _END64.size - 12
_ENTRY = struct.Struct("<4s6H3L5H2L")
_ENTRY_SIGNATURE = b"PK\x01\x02"
_MAX_COMMENT = 0xFFFF
_NONE_16 = 0xFFFF
_NONE_32 = 0xFFFFFFFF
_KINDS = {
    b"\x1f\x8b": "a gzip file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"%PDF": "a PDF document",
    b"GIF8": "a picture",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the central directory, with 64-bit sizes resolved."""

    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed_size: int
    size: int
    offset: int
    attributes: int
    extra: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Directory:
    """The central directory: its entries in their order, and where the members' data ends."""

    entries: tuple[Entry, ...]
    start: int


@dataclass(frozen=True, slots=True)
class _End:
    count: int
    size: int
    start: int


def read_directory(source: ByteSource, limits: ZipLimits) -> Directory:
    """Return the directory; ArchiveRefused names the first thing that does not fit."""
    if source.size > limits.max_archive_bytes:
        raise ArchiveRefused(
            "ARCHIVE_TOO_LARGE",
            f"The archive has more than {limits.max_archive_bytes} bytes; split it.",
        )
    _check_kind(source)
    end = _find_end(source)
    if end.count > limits.max_members:
        raise ArchiveRefused(
            "TOO_MANY_MEMBERS",
            f"The archive holds more than {limits.max_members} entries; split it.",
        )
    if end.size > limits.max_directory_bytes:
        raise _invalid("is larger than its entries can need")
    return Directory(_read_entries(source, end), end.start)


def _check_kind(source: ByteSource) -> None:
    head = source.read_at(0, min(source.size, 8))
    if head[:4] in {b"PK\x03\x04", _END_SIGNATURE}:
        return
    if head[:4] in {b"PK\x07\x08", b"PK00"}:
        raise _several_disks()
    kind = next((name for magic, name in _KINDS.items() if head.startswith(magic)), None)
    found = f"it looks like {kind}" if kind else "it does not begin like one"
    found = found if head else "it is empty"
    raise ArchiveRefused("NOT_A_ZIP", f"The file is not a ZIP archive: {found}.")


def _find_end(source: ByteSource) -> _End:
    tail_start = max(0, source.size - _END.size - _MAX_COMMENT)
    tail = source.read_at(tail_start, source.size - tail_start)
    position = tail_start + _only_end(tail)
    signature_to_comment = _END.unpack(source.read_at(position, _END.size))
    _, disk, start_disk, here, count, size, start, _ = signature_to_comment
    locator_at = position - _LOCATOR.size
    if locator_at >= 0 and source.read_at(locator_at, 4) == _LOCATOR_SIGNATURE:
        return _find_end64(source, locator_at, signature_to_comment)
    if _NONE_32 in {size, start} or _NONE_16 in {disk, start_disk, count}:
        raise _invalid64("its record is missing")
    if disk or start_disk:
        raise _several_disks()
    if here != count:
        raise _count_mismatch()
    if start + size != position:
        raise _invalid("does not end where the end record begins")
    return _End(count, size, start)


def _only_end(tail: bytes) -> int:
    """Return the position of the one end record whose comment reaches exactly to the end."""
    found = []
    position = tail.find(_END_SIGNATURE)
    last = tail.rfind(_END_SIGNATURE)
    while position >= 0:
        comment_at = position + _END.size
        if comment_at <= len(tail):
            length = int.from_bytes(tail[comment_at - 2 : comment_at], "little")
            if comment_at + length == len(tail):
                found.append(position)
        position = tail.find(_END_SIGNATURE, position + 1)
    if not found and last < 0:
        raise ArchiveRefused(
            "ARCHIVE_TRUNCATED", "The end of the archive is missing; send the file again, whole."
        )
    if not found:
        raise ArchiveRefused(
            "END_RECORD_INVALID", "The archive does not end where its end record says."
        )
    if len(found) > 1 or found[0] != last:
        raise ArchiveRefused(
            "END_RECORD_AMBIGUOUS",
            "The archive has two end records, so programs disagree about what it holds.",
        )
    return found[0]


def _find_end64(source: ByteSource, locator_at: int, end: tuple[int, ...]) -> _End:
    _, locator_disk, record_at, disks = _LOCATOR.unpack(source.read_at(locator_at, _LOCATOR.size))
    if record_at + _END64.size != locator_at:
        raise _invalid64("its record is not where it belongs")
    record = _END64.unpack(source.read_at(record_at, _END64.size))
    signature, rest, _, _, disk, start_disk, here, count, size, start = record
    if signature != _END64_SIGNATURE or rest != _END64_REST:
        raise _invalid64("its record is damaged")
    if locator_disk or disks > 1 or disk or start_disk:
        raise _several_disks()
    if here != count:
        raise _count_mismatch()
    wide = (disk, start_disk, here, count, size, start)
    if any(_differ(old, new, 16) for old, new in zip(end[1:5], wide[:4], strict=True)) or any(
        _differ(old, new, 32) for old, new in zip(end[5:7], wide[4:], strict=True)
    ):
        raise _invalid64("its two end records contradict each other")
    if start + size != record_at:
        raise _invalid("does not end where the end record begins")
    return _End(count, size, start)


def _differ(narrow: int, wide: int, bits: int) -> bool:
    return narrow not in {wide, (1 << bits) - 1}


def _read_entries(source: ByteSource, end: _End) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    position, stop = end.start, end.start + end.size
    while position < stop:
        if len(entries) == end.count:
            raise _count_mismatch()
        entry, position = _read_entry(source, position, stop)
        entries.append(entry)
    if len(entries) != end.count:
        raise _count_mismatch()
    return tuple(entries)


def _read_entry(source: ByteSource, position: int, stop: int) -> tuple[Entry, int]:
    texts_at = position + _ENTRY.size
    if texts_at > stop:
        raise _invalid("is cut")
    fields = _ENTRY.unpack(source.read_at(position, _ENTRY.size))
    (signature, _, _, flags, method, _, _, crc, packed_size, size) = fields[:10]
    (name_length, extra_length, comment_length, disk, _, attributes, offset) = fields[10:]
    following = texts_at + name_length + extra_length + comment_length
    if signature != _ENTRY_SIGNATURE:
        raise _invalid("holds something that is no entry")
    if following > stop:
        raise _invalid("has an entry that is longer than the directory")
    texts = source.read_at(texts_at, name_length + extra_length)
    extra = parse_extra(texts[name_length:])
    size, packed_size, offset, disk = widen(extra, size, packed_size, offset, disk)
    if disk:
        raise _several_disks()
    name = texts[:name_length]
    entry = Entry(name, flags, method, crc, packed_size, size, offset, attributes, extra)
    return entry, following


def _invalid(what: str) -> ArchiveRefused:
    return ArchiveRefused(
        "DIRECTORY_INVALID", f"The archive is damaged: its directory {what}. Pack it again."
    )


def _invalid64(what: str) -> ArchiveRefused:
    return ArchiveRefused("ZIP64_INVALID", f"The archive's ZIP64 data is wrong: {what}.")


def _count_mismatch() -> ArchiveRefused:
    return ArchiveRefused(
        "ENTRY_COUNT_MISMATCH",
        "The archive holds another number of entries than its end record says.",
    )


def _several_disks() -> ArchiveRefused:
    return ArchiveRefused(
        "MULTI_DISK", "The archive is one part of several; pack it into a single file."
    )
