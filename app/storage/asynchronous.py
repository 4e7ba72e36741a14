"""The asyncio form of any blocking storage."""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, ParamSpec, Self, TypeVar

from app.storage.errors import StorageUnavailable
from app.storage.port import CHUNK_BYTES, SyncStorage

_P = ParamSpec("_P")
_T = TypeVar("_T")
_THREADS = 8
_PING_TIMEOUT_SECONDS = 5.0


class Offload:
    """Runs blocking calls: in a few threads of its own, or at once where there may be no thread.

    A storage that hangs must not use up the event loop's own threads, which also
    resolve names. A worker child makes no thread, so that it can still be forked.
    """

    def __init__(self, *, threads: bool) -> None:
        self._threads = threads
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    async def __call__(self, call: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Return what the call returns."""
        if not self._threads:
            return call(*args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor(), partial(call, *args, **kwargs))

    def close(self) -> None:
        """Let the threads end."""
        if self._pool is not None:
            self._pool[1].shutdown(wait=False)
            self._pool = None

    def _executor(self) -> ThreadPoolExecutor:
        # A forked process has the object but none of its threads.
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = (os.getpid(), ThreadPoolExecutor(_THREADS, "storage"))
        return self._pool[1]


class FileReader:
    """An open file, read without blocking the event loop."""

    def __init__(self, offload: Offload, file: BinaryIO, size: int) -> None:
        self._offload = offload
        self._file = file
        self._size = size

    @property
    def size(self) -> int:
        """Return the file's bytes when it was opened."""
        return self._size

    async def read(self, length: int = -1) -> bytes:
        """Return the next bytes, b"" at the end; StorageUnavailable when the storage fails."""
        try:
            return await self._offload(self._file.read, length)
        except OSError as error:
            raise StorageUnavailable("The storage failed while a file was read.") from error

    async def close(self) -> None:
        """Close the file."""
        await self._offload(self._file.close)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the rest of the file in chunks."""
        while chunk := await self.read(CHUNK_BYTES):
            yield chunk

    async def __aenter__(self) -> Self:
        """Return the reader."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        await self.close()


class AsyncStorage:
    """A storage for asyncio code; `sync` is the storage that does the work."""

    def __init__(self, sync: SyncStorage, *, threads: bool = True) -> None:
        self._sync = sync
        self._offload = Offload(threads=threads)

    @property
    def sync(self) -> SyncStorage:
        """Return the blocking form of the same storage."""
        return self._sync

    async def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        """Write a whole file in one step."""
        await self._offload(self._sync.put, key, data, create_only=create_only)

    async def put_stream(
        self,
        key: str,
        chunks: AsyncIterable[bytes],
        *,
        create_only: bool = False,
        max_bytes: int | None = None,
    ) -> int:
        """Write a file of unknown length in one step; return its bytes."""
        context = self._sync.open_writer(key, create_only=create_only, max_bytes=max_bytes)
        writer = await self._offload(context.__enter__)
        try:
            async for chunk in chunks:
                await self._offload(writer.write, chunk)
        except BaseException as error:
            # Whatever ended the stream, a cancelled request included, the unfinished file goes.
            context.__exit__(type(error), error, error.__traceback__)
            raise
        await self._offload(context.__exit__, None, None, None)
        return writer.size

    async def get(self, key: str) -> bytes:
        """Return the whole file."""
        return await self._offload(self._sync.get, key)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`."""
        return await self._offload(self._sync.get_range, key, start, length)

    async def open_reader(self, key: str) -> FileReader:
        """Return an open file that the caller closes."""
        return await self._offload(self._open, key)

    def _open(self, key: str) -> FileReader:
        file = self._sync.open_reader(key)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        return FileReader(self._offload, file, size)

    async def exists(self, key: str) -> bool:
        """Return whether a file has this key."""
        return await self._offload(self._sync.exists, key)

    async def size(self, key: str) -> int:
        """Return the file's bytes."""
        return await self._offload(self._sync.size, key)

    async def delete(self, key: str) -> None:
        """Remove the file."""
        await self._offload(self._sync.delete, key)

    async def delete_prefix(self, prefix: str) -> None:
        """Remove the folder and all below it."""
        await self._offload(self._sync.delete_prefix, prefix)

    async def move_prefix(self, source: str, target: str) -> None:
        """Rename a folder."""
        await self._offload(self._sync.move_prefix, source, target)

    async def list(self, prefix: str = "") -> list[str]:
        """Return the keys of all files below the folder, sorted."""
        return await self._offload(self._sync.list, prefix)

    def local_path(self, key: str) -> Path | None:
        """Return where the file lies on this machine, None when it is elsewhere."""
        return self._sync.local_path(key)

    async def ping(self) -> None:
        """Raise StorageUnavailable unless the storage can be written right now."""
        try:
            async with asyncio.timeout(_PING_TIMEOUT_SECONDS):
                await self._offload(self._sync.ping)
        except TimeoutError as error:
            raise StorageUnavailable("The storage does not answer.") from error

    async def close(self) -> None:
        """Let go of connections and threads."""
        self._offload.close()
        self._sync.close()
