"""Unfinished files: written aside, made durable, then put in place in one step."""

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Sequence

from app.common import failpoints
from app.storage.confined import FILE_MODE, ConfinedRoot, translated
from app.storage.errors import StorageTooLarge
from app.storage.keys import STAGING_FOLDER

_ATTEMPTS = 50
_ABANDONED_AFTER_SECONDS = 3600.0
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class StagedFile:
    """One file on its way: `write` as often as needed, then `commit` once."""

    def __init__(self, root: ConfinedRoot, folder: int, key: str, max_bytes: int | None) -> None:
        self._root = root
        self._folder = folder
        self._key = key
        self._max_bytes = max_bytes
        self._size = 0
        self._name = secrets.token_hex(16)
        self._file = os.open(self._name, _CREATE_FLAGS, FILE_MODE, dir_fd=folder)
        # The process's umask must not decide whether the worker's group can read the file.
        os.fchmod(self._file, FILE_MODE)

    @property
    def size(self) -> int:
        """Return the bytes written so far."""
        return self._size

    def write(self, data: bytes) -> None:
        """Append; StorageTooLarge as soon as the file exceeds its limit."""
        self._size += len(data)
        if self._max_bytes is not None and self._size > self._max_bytes:
            raise StorageTooLarge(f"The file has more than {self._max_bytes} bytes.")
        view = memoryview(data)
        with translated(self._key):
            while view:
                view = view[os.write(self._file, view) :]

    def flush(self) -> None:
        """Make the bytes durable; a full or failing disk shows here at the latest."""
        with translated(self._key):
            os.fsync(self._file)

    def commit(self, *, create_only: bool) -> None:
        """Make the bytes durable and give them their key; StorageConflict with `create_only`."""
        self.flush()
        self.place(create_only=create_only)

    @property
    def parents(self) -> tuple[str, ...]:
        """Return the names of the folders that the file goes into."""
        return tuple(self._key.split("/")[:-1])

    def place(self, *, create_only: bool = False, durable: bool = True) -> None:
        """Give the bytes their key; unless `durable`, the caller syncs the folder."""
        *parents, name = self._key.split("/")
        with translated(self._key):
            for _ in range(_ATTEMPTS):
                # A delete beside us may remove the folder between its making and its use.
                with contextlib.suppress(FileNotFoundError):
                    return self._place(parents, name, create_only=create_only, durable=durable)
            raise OSError(errno.EBUSY, "the folder is removed again and again")

    def _place(self, parents: list[str], name: str, *, create_only: bool, durable: bool) -> None:
        failpoints.hit("storage.before_rename")
        with self._root.folder(parents, create=True) as target:
            places = {"src_dir_fd": self._folder, "dst_dir_fd": target}
            if create_only:
                # A hard link fails when the name exists: the one atomic "create" that NFS has too.
                os.link(self._name, name, follow_symlinks=False, **places)
            else:
                os.replace(self._name, name, **places)  # noqa: PTH105 - pathlib knows no dir_fd
            failpoints.hit("storage.after_rename")
            if durable:
                # Without this, a crash of the machine could forget the new name.
                os.fsync(target)

    def discard(self) -> None:
        """Close the file and remove what is left of it aside."""
        os.close(self._file)
        with contextlib.suppress(OSError):
            os.unlink(self._name, dir_fd=self._folder)


class Staging:
    """The folder of unfinished files; what a crash left there is removed on first use."""

    def __init__(self, root: ConfinedRoot) -> None:
        self._root = root
        self._swept = False

    @contextlib.contextmanager
    def file(self, key: str, max_bytes: int | None) -> Iterator[StagedFile]:
        """Yield a new unfinished file; it is gone at the end unless it was committed."""
        with contextlib.ExitStack() as stack:
            with translated(key):
                folder = stack.enter_context(self._root.folder([STAGING_FOLDER], create=True))
                self._sweep_once(folder)
                staged = StagedFile(self._root, folder, key, max_bytes)
            stack.callback(staged.discard)
            yield staged

    def put_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Write some files: their bytes are made durable together, then all get their keys."""
        with contextlib.ExitStack() as stack:
            with translated(files[0][0]):
                folder = stack.enter_context(self._root.folder([STAGING_FOLDER], create=True))
                self._sweep_once(folder)
            staged = []
            for key, data in files:
                with translated(key):
                    staged.append(StagedFile(self._root, folder, key, None))
                stack.callback(staged[-1].discard)
                staged[-1].write(data)
            with translated(files[0][0]):
                if not _sync_file_system(folder):
                    for file in staged:
                        file.flush()
            for file in staged:
                file.place(durable=False)
            with translated(files[0][0]):
                for parents in {file.parents for file in staged}:
                    with self._root.folder(parents, create=True) as target:
                        os.fsync(target)

    def remove(self, parent: int, name: str) -> None:
        """Move a folder here in one step, then remove what is in it."""
        with self._root.folder([STAGING_FOLDER], create=True) as folder:
            self._sweep_once(folder)
            removed = secrets.token_hex(16)
            os.rename(name, removed, src_dir_fd=parent, dst_dir_fd=folder)
            os.fsync(parent)
            _remove_tree(folder, removed)

    def _sweep_once(self, folder: int) -> None:
        if not self._swept:
            self._swept = True
            sweep(folder, _ABANDONED_AFTER_SECONDS)


def _sync_file_system(folder: int) -> bool:
    """Write everything to the disk that the folder lies on; False where there is no such call."""
    try:
        sync = ctypes.CDLL(None, use_errno=True).syncfs
    except AttributeError:
        return False
    if sync(folder) != 0:
        raise OSError(ctypes.get_errno(), "the file system cannot be synchronised")
    return True


def sweep(folder: int, older_than_seconds: float) -> int:
    """Remove what nobody has written to for that long; return how many entries."""
    limit = time.time() - older_than_seconds
    removed = 0
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if facts.st_mtime >= limit:
                continue
            if stat.S_ISDIR(facts.st_mode):
                _remove_tree(folder, name)
            else:
                os.unlink(name, dir_fd=folder)
            removed += 1
    return removed


def _remove_tree(parent: int, name: str) -> None:
    if sys.version_info >= (3, 12):
        shutil.rmtree(name, dir_fd=parent, onexc=lambda _call, _path, error: _ignore_gone(error))
    else:
        shutil.rmtree(name, dir_fd=parent, onerror=lambda _call, _path, info: _ignore_gone(info[1]))


def _ignore_gone(error: BaseException) -> None:
    # Another process may sweep the same leftovers.
    if not isinstance(error, FileNotFoundError):
        raise error
