"""Where each member's data lies: without overlap, without gap, and as the local header says.

Members that share data are how a few kilobytes become terabytes; data that no
entry names is how one file is two kinds of file at once. Neither exists in an
archive that a packer wrote.
"""

import struct

from app.storage.zip_directory import Directory, Entry
from app.storage.zip_errors import ArchiveRefused
from app.storage.zip_extra import local_sizes, parse_extra
from app.storage.zip_source import ByteSource

HAS_DESCRIPTOR = 1 << 3
# Encryption, descriptor, strong encryption, UTF-8 and masked headers decide what the data means.
_FLAGS_THAT_MATTER = 1 << 0 | HAS_DESCRIPTOR | 1 << 6 | 1 << 11 | 1 << 13
_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_SIGNATURE = b"PK\x03\x04"
_DESCRIPTOR_SIGNATURE = b"PK\x07\x08"
_NARROW = struct.Struct("<3L")
_WIDE = struct.Struct("<LQQ")


def data_offsets(source: ByteSource, directory: Directory) -> dict[int, int]:
    """Return where the data of the entry with each index begins; else ArchiveRefused."""
    by_offset = sorted(range(len(directory.entries)), key=lambda i: directory.entries[i].offset)
    offsets = {}
    position = 0
    for place, index in enumerate(by_offset):
        entry = directory.entries[index]
        _check_start(entry, position, directory.start)
        offsets[index], sizes_known = _check_local(source, entry, directory.start)
        data_end = offsets[index] + entry.packed_size
        following = directory.start
        if place + 1 < len(by_offset):
            following = directory.entries[by_offset[place + 1]].offset
        if data_end > directory.start:
            raise _out_of_range()
        if data_end > following:
            raise _overlap()
        position = data_end + _descriptor(
            source, entry, data_end, following, sizes_known=sizes_known
        )
    if position != directory.start:
        raise _hidden_data()
    return offsets


def _check_start(entry: Entry, position: int, stop: int) -> None:
    if entry.offset + _LOCAL.size > stop:
        raise _out_of_range()
    if entry.offset != position:
        raise _hidden_data()


def _check_local(source: ByteSource, entry: Entry, stop: int) -> tuple[int, bool]:
    """Return where the data begins, and whether the header already tells its sizes."""
    fields = _LOCAL.unpack(source.read_at(entry.offset, _LOCAL.size))
    signature, _, flags, method, _, _, crc, packed_size, size, name_length, extra_length = fields
    texts_at = entry.offset + _LOCAL.size
    data_at = texts_at + name_length + extra_length
    if signature != _LOCAL_SIGNATURE:
        raise _mismatch("is not there")
    if data_at > stop:
        raise _out_of_range()
    if (flags ^ entry.flags) & _FLAGS_THAT_MATTER or method != entry.method:
        raise _mismatch("names another method")
    texts = source.read_at(texts_at, name_length + extra_length)
    if texts[:name_length] != entry.raw_name:
        raise _mismatch("has another name")
    sizes = local_sizes(parse_extra(texts[name_length:]), (packed_size, size))
    expected = (entry.crc, entry.packed_size, entry.size)
    if (crc, *sizes) == expected:
        return data_at, True
    # A packer that could not go back left zeros here and wrote the numbers behind the data.
    if entry.flags & HAS_DESCRIPTOR and not any((crc, *sizes)):
        return data_at, False
    raise _mismatch("has other sizes")


def _descriptor(
    source: ByteSource, entry: Entry, at: int, following: int, *, sizes_known: bool
) -> int:
    """Return the length of the numbers behind the data, which must say what the entry says."""
    length = following - at
    if not entry.flags & HAS_DESCRIPTOR or (length == 0 and sizes_known):
        return 0
    if length not in {12, 16, 20, 24}:
        raise _hidden_data()
    data = source.read_at(at, length)
    if length in {16, 24}:
        if not data.startswith(_DESCRIPTOR_SIGNATURE):
            raise _hidden_data()
        data = data[4:]
    layout = _NARROW if len(data) == _NARROW.size else _WIDE
    if layout.unpack(data) != (entry.crc, entry.packed_size, entry.size):
        raise _mismatch("is followed by other sizes")
    return length


def _mismatch(what: str) -> ArchiveRefused:
    return ArchiveRefused(
        "LOCAL_HEADER_MISMATCH",
        f"The archive contradicts itself: the header before a member {what}. Pack it again.",
    )


def _out_of_range() -> ArchiveRefused:
    return ArchiveRefused(
        "OFFSET_OUT_OF_RANGE", "The archive is damaged: a member lies outside of it."
    )


def _overlap() -> ArchiveRefused:
    return ArchiveRefused(
        "MEMBERS_OVERLAP", "The archive's members share their data, as in a ZIP bomb."
    )


def _hidden_data() -> ArchiveRefused:
    return ArchiveRefused(
        "HIDDEN_DATA", "The archive holds data that none of its entries names. Pack it again."
    )
