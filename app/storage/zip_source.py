"""Random access to an archive's bytes, without holding more than one piece of it."""

import io
import os
import stat
import threading
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import BinaryIO

from app.storage.errors import StorageUnavailable
from app.storage.zip_errors import ArchiveRefused

ArchiveData = bytes | bytearray | memoryview | mmap | Path | BinaryIO


class ByteSource:
    """The bytes of one archive. A piece that is missing is an ArchiveRefused.

    A file is read by position instead of being mapped: when another client of a
    share cuts a mapped file short, the kernel kills the process that looks at it.
    """

    def __init__(self, data: ArchiveData) -> None:
        self._own: BinaryIO | None = None
        if isinstance(data, Path):
            data = self._own = _open_plain(data)
        if isinstance(data, bytes | bytearray | memoryview | mmap):
            self.size, self._read = len(data), _slices(data)
        else:
            self.size, self._read = _positional(data)

    def read_at(self, start: int, length: int) -> bytes:
        """Return exactly these bytes; ArchiveRefused when they are not (any longer) there."""
        try:
            piece = self._read(start, length)
        except OSError as error:
            raise StorageUnavailable("The storage failed while an archive was read.") from error
        if len(piece) != length:
            raise ArchiveRefused(
                "ARCHIVE_CHANGED", "The archive changed while it was read; send it again."
            )
        return piece

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._own is not None:
            self._own.close()


def _slices(data: bytes | bytearray | memoryview | mmap) -> Callable[[int, int], bytes]:
    return lambda start, length: bytes(data[start : start + length])


def _positional(file: BinaryIO) -> tuple[int, Callable[[int, int], bytes]]:
    try:
        descriptor = file.fileno()
    except (OSError, io.UnsupportedOperation):
        return _seeking(file)
    size = os.fstat(descriptor).st_size
    return size, lambda start, length: _pread(descriptor, start, length)


def _pread(descriptor: int, start: int, length: int) -> bytes:
    pieces = []
    while length > 0 and (piece := os.pread(descriptor, length, start)):
        pieces.append(piece)
        start += len(piece)
        length -= len(piece)
    return b"".join(pieces)


def _seeking(file: BinaryIO) -> tuple[int, Callable[[int, int], bytes]]:
    lock = threading.Lock()

    def read(start: int, length: int) -> bytes:
        with lock:
            file.seek(start)
            return file.read(length)

    return file.seek(0, os.SEEK_END), read


def _open_plain(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise StorageUnavailable("The archive cannot be opened.") from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise ArchiveRefused("NOT_A_ZIP", "The archive is not a plain file.")
