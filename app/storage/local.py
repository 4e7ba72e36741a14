"""Files in a local folder or an NFS mount."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from app.storage.confined import ConfinedRoot, open_file, refuse_link, stat_file, translated
from app.storage.errors import StorageKeyError, StorageNotFound
from app.storage.keys import STAGING_FOLDER, check_key, check_prefix
from app.storage.staging import StagedFile, Staging

# Each has an open descriptor until all are in place.
_AT_ONCE = 64
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR})


class LocalStorage:
    """The blocking adapter over one folder; safe to use from several threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = ConfinedRoot(root)
        self._staging = Staging(self._root)

    @property
    def sync(self) -> "LocalStorage":
        """Return the storage itself."""
        return self

    def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        """Write a whole file in one step."""
        with self.open_writer(key, create_only=create_only) as writer:
            writer.write(data)

    def put_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write whole files; the disk is waited for once in a while, not for each of them."""
        waiting = iter(files)
        while chunk := [(check_key(key), data) for key, data in islice(waiting, _AT_ONCE)]:
            self._staging.put_all(chunk)

    @contextlib.contextmanager
    def open_writer(
        self, key: str, *, create_only: bool = False, max_bytes: int | None = None
    ) -> Iterator[StagedFile]:
        """Yield a writer; the file is in place at the end of the context."""
        with self._staging.file(check_key(key), max_bytes) as staged:
            yield staged
            staged.commit(create_only=create_only)

    def put_stream(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        create_only: bool = False,
        max_bytes: int | None = None,
    ) -> int:
        """Write a file of unknown length in one step; return its bytes."""
        with self.open_writer(key, create_only=create_only, max_bytes=max_bytes) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.size

    def get(self, key: str) -> bytes:
        """Return the whole file."""
        with translated(key), self.open_reader(key) as reader:
            return reader.read()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`."""
        with translated(key), self.open_reader(key) as reader:
            reader.seek(start)
            return reader.read(length)

    def open_reader(self, key: str) -> BinaryIO:
        """Return an open, seekable file that the caller closes."""
        with self._parent(key) as (folder, name):
            return os.fdopen(open_file(folder, name), "rb")

    def exists(self, key: str) -> bool:
        """Return whether a file has this key."""
        try:
            self.size(key)
        except StorageNotFound:
            return False
        return True

    def size(self, key: str) -> int:
        """Return the file's bytes."""
        with self._parent(key) as (folder, name):
            return stat_file(folder, name).st_size

    def delete(self, key: str) -> None:
        """Remove the file, and the folders that it leaves empty."""
        try:
            with self._parent(key) as (folder, name):
                stat_file(folder, name)
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
        except StorageNotFound:
            return
        self._prune(key.split("/")[:-1])

    def delete_prefix(self, prefix: str) -> None:
        """Remove the folder and all below it; links in it are removed, never followed.

        It is out of sight in one step, so nobody meets a folder that is half removed.
        """
        *parents, name = _folder_parts(prefix)
        try:
            with self._parent(check_prefix(prefix)) as (folder, _):
                if not _is_folder(folder, name):
                    return
                self._staging.remove(folder, name)
        except StorageNotFound:
            return
        self._prune(parents)

    def move_prefix(self, source: str, target: str) -> None:
        """Rename a folder in one step; StorageConflict when the target holds something."""
        *source_parents, source_name = _folder_parts(source)
        *target_parents, target_name = _folder_parts(target)
        with translated(source), self._root.folder([*source_parents, source_name]):
            pass
        with (
            translated(target),
            self._root.folder(source_parents) as from_folder,
            self._root.folder(target_parents, create=True) as to_folder,
        ):
            refuse_link(to_folder, target_name)
            os.rename(source_name, target_name, src_dir_fd=from_folder, dst_dir_fd=to_folder)
            os.fsync(to_folder)
            os.fsync(from_folder)
        self._prune(source_parents)

    def list(self, prefix: str = "") -> list[str]:
        """Return the keys of all plain files below the folder, sorted."""
        folder_key = check_prefix(prefix)
        parts = folder_key.split("/") if folder_key else []
        with translated(folder_key):
            try:
                with self._root.folder(parts) as folder:
                    return sorted(_files_below(folder, folder_key))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def local_path(self, key: str) -> Path | None:
        """Return the file's path, checked now; whoever opens it later must not follow links."""
        self.size(key)
        return self._root.path.absolute() / key

    def ping(self) -> None:
        """Raise StorageUnavailable unless a file can be written durably right now."""
        with self._staging.file("ping", None) as staged:
            staged.write(b"ping")
            staged.flush()

    def close(self) -> None:
        """Do nothing: no descriptor stays open between two calls."""

    @contextlib.contextmanager
    def _parent(self, key: str) -> Iterator[tuple[int, str]]:
        *parents, name = check_key(key).split("/")
        with translated(key):
            try:
                with self._root.folder(parents) as folder:
                    yield folder, name
            except NotADirectoryError as error:
                raise FileNotFoundError(errno.ENOENT, "a part of the key is a file") from error

    def _prune(self, parts: Sequence[str]) -> None:
        for depth in range(len(parts), 0, -1):
            try:
                with self._root.folder(parts[: depth - 1]) as folder:
                    os.rmdir(parts[depth - 1], dir_fd=folder)
            except OSError:
                # Not empty, or somebody was faster: an empty folder more or less harms nobody.
                return


def _folder_parts(prefix: str) -> list[str]:
    folder = check_prefix(prefix)
    if not folder:
        raise StorageKeyError("The storage root itself cannot be removed or moved.")
    return folder.split("/")


def _is_folder(folder: int, name: str) -> bool:
    refuse_link(folder, name)
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _files_below(folder: int, prefix: str) -> Iterator[str]:
    for place, folders, files, opened in os.fwalk(".", dir_fd=folder, onerror=_raise):
        parts = [*([prefix] if prefix else []), *place.split("/")[1:]]
        if not parts:
            folders[:] = [name for name in folders if name != STAGING_FOLDER]
        for name in files:
            key = "/".join([*parts, name])
            if _is_listed(opened, name, key):
                yield key


def _is_listed(folder: int, name: str, key: str) -> bool:
    # What others put there under names that are no keys, links included, cannot be read by key.
    try:
        check_key(key)
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except (StorageKeyError, FileNotFoundError):
        return False


def _raise(error: OSError) -> None:
    # A folder that was removed while we walk has no files any more; all else is a real failure.
    if error.errno not in _NOTHING_THERE:
        raise error
