"""Extra fields: a list of (id, length, bytes) beside each name, and the 64-bit sizes in it."""

import struct
from collections.abc import Sequence

from app.storage.zip_errors import ArchiveRefused

ZIP64 = 0x0001
AES = 0x9901
UNICODE_PATH = 0x7075
_HEADER = struct.Struct("<HH")
_NONE_16 = 0xFFFF
_NONE_32 = 0xFFFFFFFF
_KEPT = frozenset({ZIP64, AES, UNICODE_PATH})


def parse_extra(data: bytes) -> dict[int, bytes]:
    """Return the fields that matter here, by id; ArchiveRefused when lengths do not fit."""
    fields: dict[int, bytes] = {}
    position = 0
    while position + _HEADER.size <= len(data):
        kind, length = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        if position + length > len(data):
            raise _invalid("is longer than its place")
        if kind in fields:
            raise _invalid("that matters is there twice")
        if kind in _KEPT:
            fields[kind] = data[position : position + length]
        position += length
    # Tools that align members leave up to three zeros that are no field.
    if any(data[position:]):
        raise _invalid("is cut")
    return fields


def widen(
    extra: dict[int, bytes], size: int, packed_size: int, offset: int, disk: int
) -> tuple[int, int, int, int]:
    """Return the four numbers with the marked ones taken from the ZIP64 field, in its order."""
    field = extra.get(ZIP64, b"")
    values = []
    for number, mark, layout in (
        (size, _NONE_32, "<Q"),
        (packed_size, _NONE_32, "<Q"),
        (offset, _NONE_32, "<Q"),
        (disk, _NONE_16, "<L"),
    ):
        if number != mark:
            values.append(number)
            continue
        width = struct.calcsize(layout)
        if len(field) < width:
            raise ArchiveRefused(
                "ZIP64_INVALID", "The archive's ZIP64 data is wrong: a size is missing."
            )
        values.append(int.from_bytes(field[:width], "little"))
        field = field[width:]
    if field:
        raise ArchiveRefused("ZIP64_INVALID", "The archive's ZIP64 data is wrong: it is too long.")
    return _four(values)


def local_sizes(extra: dict[int, bytes], sizes: tuple[int, int]) -> tuple[int, int]:
    """Return a local header's (packed size, size); there, ZIP64 always holds both."""
    field = extra.get(ZIP64)
    if field is None or _NONE_32 not in sizes:
        return sizes
    if len(field) < 16:
        raise ArchiveRefused(
            "ZIP64_INVALID", "The archive's ZIP64 data is wrong: a size is missing."
        )
    size, packed_size = struct.unpack_from("<QQ", field)
    return packed_size, size


def _four(values: Sequence[int]) -> tuple[int, int, int, int]:
    size, packed_size, offset, disk = values
    return size, packed_size, offset, disk


def _invalid(what: str) -> ArchiveRefused:
    return ArchiveRefused("EXTRA_FIELD_INVALID", f"The archive is damaged: an extra field {what}.")
