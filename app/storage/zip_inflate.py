"""One member's data: unpacked in small pieces, counted, and compared with what was declared."""

import time
import zlib
from collections.abc import Iterator

from app.storage.zip_directory import Entry
from app.storage.zip_errors import ArchiveRefused, MemberRefused
from app.storage.zip_source import ByteSource

STORED = 0
DEFLATED = 8
_CHUNK = 1 << 16


class Budget:
    """This thread's processor time for one archive."""

    def __init__(self, seconds: float) -> None:
        self._until = time.thread_time() + seconds

    def check(self) -> None:
        """Raise ArchiveRefused when the time is used up."""
        if time.thread_time() > self._until:
            raise ArchiveRefused(
                "TOO_EXPENSIVE", "Unpacking the archive takes too long for what it holds."
            )


def unpack(source: ByteSource, entry: Entry, data_at: int, budget: Budget) -> Iterator[bytes]:
    """Yield the member's bytes; MemberRefused as soon as they are not what was declared."""
    pieces = _packed(source, entry, data_at)
    if entry.method == DEFLATED:
        pieces = _inflated(pieces, entry.size)
    crc = size = 0
    for piece in pieces:
        budget.check()
        size += len(piece)
        if size > entry.size:
            raise _wrong_size()
        crc = zlib.crc32(piece, crc)
        yield piece
    if size != entry.size:
        raise _wrong_size()
    if crc != entry.crc:
        raise MemberRefused("CRC_MISMATCH", "Its data is damaged: the checksum differs.")


def _packed(source: ByteSource, entry: Entry, data_at: int) -> Iterator[bytes]:
    end = data_at + entry.packed_size
    for start in range(data_at, end, _CHUNK):
        yield source.read_at(start, min(_CHUNK, end - start))


def _inflated(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield unpacked pieces; the last one is at most one byte more than was declared."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    allowed = size + 1
    for piece in pieces:
        if inflater.eof:
            raise _corrupt("goes on after its end")
        for output in _outputs(inflater, piece, allowed):
            allowed -= len(output)
            yield output
    if not inflater.eof:
        raise _corrupt("ends too early")
    if inflater.unused_data:
        raise _corrupt("goes on after its end")


def _outputs(inflater: "zlib._Decompress", data: bytes, allowed: int) -> Iterator[bytes]:
    while allowed > 0 and not inflater.eof:
        room = min(_CHUNK, allowed)
        try:
            output = inflater.decompress(data, room)
        except zlib.error:
            raise _corrupt("cannot be unpacked") from None
        allowed -= len(output)
        yield output
        data = inflater.unconsumed_tail
        # With a full buffer there may be more to come although all input is taken.
        if not data and len(output) < room:
            return


def _corrupt(what: str) -> MemberRefused:
    return MemberRefused("DATA_CORRUPT", f"Its data is damaged: it {what}.")


def _wrong_size() -> MemberRefused:
    return MemberRefused("SIZE_MISMATCH", "It unpacks to another size than it declares.")
