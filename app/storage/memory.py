"""Files in memory, for tests and the test kit: the same promises as a folder."""

import contextlib
import io
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from app.storage.errors import StorageConflict, StorageKeyError, StorageNotFound, StorageTooLarge
from app.storage.keys import check_key, check_prefix


class MemoryFile:
    """A file on its way into the memory storage."""

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()

    @property
    def size(self) -> int:
        """Return the bytes written so far."""
        return len(self._data)

    def write(self, data: bytes) -> None:
        """Append; StorageTooLarge as soon as the file exceeds its limit."""
        self._data += data
        if self._max_bytes is not None and self.size > self._max_bytes:
            raise StorageTooLarge(f"The file has more than {self._max_bytes} bytes.")

    def content(self) -> bytes:
        """Return what was written."""
        return bytes(self._data)


class MemoryStorage:
    """A dictionary of files behind a lock, so that every thread sees whole files."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @property
    def sync(self) -> "MemoryStorage":
        """Return the storage itself."""
        return self

    def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        """Keep a whole file."""
        check_key(key)
        with self._lock:
            taken = create_only and key in self._files
            if (
                taken
                or _below(self._files, key)
                or any(part in self._files for part in _parents(key))
            ):
                raise StorageConflict(f"'{key}' is taken, or a part of it is a file.")
            self._files[key] = bytes(data)

    def put_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Keep whole files."""
        for key, data in files:
            self.put(key, data)

    @contextlib.contextmanager
    def open_writer(
        self, key: str, *, create_only: bool = False, max_bytes: int | None = None
    ) -> Iterator[MemoryFile]:
        """Yield a writer; the file is in place at the end of the context."""
        check_key(key)
        writer = MemoryFile(max_bytes)
        yield writer
        self.put(key, writer.content(), create_only=create_only)

    def put_stream(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        create_only: bool = False,
        max_bytes: int | None = None,
    ) -> int:
        """Keep a file of unknown length; return its bytes."""
        with self.open_writer(key, create_only=create_only, max_bytes=max_bytes) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.size

    def get(self, key: str) -> bytes:
        """Return the whole file."""
        with self._lock:
            try:
                return self._files[check_key(key)]
            except KeyError:
                raise StorageNotFound(f"There is no file '{key}' on the storage.") from None

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`."""
        return self.get(key)[start : start + length]

    def open_reader(self, key: str) -> BinaryIO:
        """Return the file as a seekable stream."""
        return io.BytesIO(self.get(key))

    def exists(self, key: str) -> bool:
        """Return whether a file has this key."""
        with self._lock:
            return check_key(key) in self._files

    def size(self, key: str) -> int:
        """Return the file's bytes."""
        return len(self.get(key))

    def delete(self, key: str) -> None:
        """Remove the file."""
        with self._lock:
            self._files.pop(check_key(key), None)

    def delete_prefix(self, prefix: str) -> None:
        """Remove the folder and all below it."""
        folder = _not_root(prefix)
        with self._lock:
            for key in _below(self._files, folder):
                del self._files[key]

    def move_prefix(self, source: str, target: str) -> None:
        """Rename a folder in one step."""
        old, new = _not_root(source), _not_root(target)
        with self._lock:
            moving = _below(self._files, old)
            if not moving:
                raise StorageNotFound(f"There is no folder '{old}' on the storage.")
            if (
                new in self._files
                or _below(self._files, new)
                or any(p in self._files for p in _parents(new))
            ):
                raise StorageConflict(f"'{new}' is taken, or a part of it is a file.")
            for key in moving:
                self._files[new + key.removeprefix(old)] = self._files.pop(key)

    def list(self, prefix: str = "") -> list[str]:
        """Return the keys of all files below the folder, sorted."""
        folder = check_prefix(prefix)
        with self._lock:
            return sorted(_below(self._files, folder) if folder else self._files)

    def local_path(self, key: str) -> Path | None:
        """Return None: the file has no path."""
        check_key(key)
        return None

    def ping(self) -> None:
        """Return at once: memory is there."""

    def close(self) -> None:
        """Do nothing: the files live as long as the storage."""


def _below(files: Iterable[str], folder: str) -> list[str]:
    return [key for key in files if key.startswith(f"{folder}/")]


def _parents(key: str) -> Iterator[str]:
    parts = key.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


def _not_root(prefix: str) -> str:
    folder = check_prefix(prefix)
    if not folder:
        raise StorageKeyError("The storage root itself cannot be removed or moved.")
    return folder
