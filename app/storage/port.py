"""The port for files: one shape for a local folder, an NFS mount, S3 and memory.

A key is a relative path with forward slashes (see `check_key`). A *prefix* is a
folder: "jobs/1" means the keys that start with "jobs/1/". Every method raises
StorageKeyError for a bad key and StorageUnavailable when the storage is full,
read-only, missing or failing.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from app.storage.keys import check_key, check_prefix

__all__ = ["Storage", "StorageReader", "StorageWriter", "SyncStorage", "check_key", "check_prefix"]

CHUNK_BYTES = 1 << 20


class StorageWriter(Protocol):
    """A file on its way; nobody sees it before it is complete."""

    @property
    def size(self) -> int:
        """Return the bytes written so far."""

    def write(self, data: bytes) -> None:
        """Append; StorageTooLarge as soon as the file exceeds its limit."""


class SyncStorage(Protocol):
    """The blocking form, for `def` tasks and commands."""

    @property
    def sync(self) -> "SyncStorage":
        """Return the storage itself, so that code may ask for the blocking form twice."""

    def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        """Write a whole file at once: readers see the old one or the new one, never a half.

        With `create_only`, raise StorageConflict when the key is taken, also in a race.
        """

    def put_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write whole files as `put` does, durable when this returns, at much less cost for each.

        When it raises, some of the files may be there and others not.
        """

    def open_writer(
        self, key: str, *, create_only: bool = False, max_bytes: int | None = None
    ) -> AbstractContextManager[StorageWriter]:
        """Return a context that puts the file in place at its end, or drops it on an error."""

    def put_stream(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        create_only: bool = False,
        max_bytes: int | None = None,
    ) -> int:
        """Write a file of unknown length like `put`; return its bytes.

        Over `max_bytes` (StorageTooLarge), and when `chunks` raises, nothing is kept.
        """

    def get(self, key: str) -> bytes:
        """Return the whole file; StorageNotFound when there is none."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`; fewer at the end, none past it."""

    def open_reader(self, key: str) -> BinaryIO:
        """Return an open, seekable file that the caller closes; else StorageNotFound."""

    def exists(self, key: str) -> bool:
        """Return whether a file (not a folder) has this key."""

    def size(self, key: str) -> int:
        """Return the file's bytes; StorageNotFound when there is none."""

    def delete(self, key: str) -> None:
        """Remove the file; no error when there is none."""

    def delete_prefix(self, prefix: str) -> None:
        """Remove the folder and all below it; no error when there is none. The root is refused.

        A local folder is out of sight in one step.
        """

    def move_prefix(self, source: str, target: str) -> None:
        """Rename a folder; StorageConflict when the target holds files.

        StorageNotFound without a source. A local folder is renamed in one step; on
        an object store the files move one by one, sorted by key.
        """

    def list(self, prefix: str = "") -> list[str]:
        """Return the keys of all files below the folder, sorted by code point."""

    def local_path(self, key: str) -> Path | None:
        """Return where the file lies on this machine, to be read only; None for elsewhere."""

    def ping(self) -> None:
        """Raise StorageUnavailable unless a file can be written and removed right now."""

    def close(self) -> None:
        """Let go of connections and threads."""


class StorageReader(Protocol):
    """An open file: `async with`, `read`, or `async for` over chunks of at most 1 MiB."""

    @property
    def size(self) -> int:
        """Return the file's bytes when it was opened."""

    async def read(self, length: int = -1) -> bytes:
        """Return the next bytes, all of the rest for -1, b"" at the end."""

    async def close(self) -> None:
        """Close the file; a second time does nothing."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Storage(Protocol):
    """The form for asyncio code. What a method promises is written at its twin in SyncStorage."""

    @property
    def sync(self) -> SyncStorage:
        """Return the blocking form of the same storage."""

    async def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        """Write a whole file at once."""

    async def put_stream(
        self,
        key: str,
        chunks: AsyncIterable[bytes],
        *,
        create_only: bool = False,
        max_bytes: int | None = None,
    ) -> int:
        """Write a file of unknown length; return its bytes."""

    async def get(self, key: str) -> bytes:
        """Return the whole file."""

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`."""

    async def open_reader(self, key: str) -> StorageReader:
        """Return an open file; the caller closes it."""

    async def exists(self, key: str) -> bool:
        """Return whether a file has this key."""

    async def size(self, key: str) -> int:
        """Return the file's bytes."""

    async def delete(self, key: str) -> None:
        """Remove the file."""

    async def delete_prefix(self, prefix: str) -> None:
        """Remove the folder and all below it."""

    async def move_prefix(self, source: str, target: str) -> None:
        """Rename a folder."""

    async def list(self, prefix: str = "") -> list[str]:
        """Return the keys of all files below the folder, sorted."""

    def local_path(self, key: str) -> Path | None:
        """Return where the file lies on this machine; it blocks for a few system calls."""

    async def ping(self) -> None:
        """Raise StorageUnavailable unless the storage can be written right now."""

    async def close(self) -> None:
        """Let go of connections and threads."""
