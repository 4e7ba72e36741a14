"""A folder that nothing can leave: every step goes through an open parent, never over a link.

Checking a path first and opening it afterwards leaves a moment in which another
client of the same NFS share can put a symbolic link into it. Here the kernel
does both at once (`openat` with O_NOFOLLOW), so there is no such moment. Links
are refused altogether, also those that stay inside the root.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.storage.errors import (
    StorageConflict,
    StorageKeyError,
    StorageNotFound,
    StorageUnavailable,
)

FILE_MODE = 0o640
FOLDER_MODE = 0o750
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK keeps a FIFO that somebody left in the folder from hanging the reader.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TAKEN = frozenset({errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY})
_HINTS = {
    errno.ENOSPC: "The storage is full: free some space or enlarge it.",
    errno.EDQUOT: "The storage's quota is used up: free some space or raise it.",
    errno.EFBIG: "The file is larger than the storage or the process may write.",
    errno.EROFS: "The storage is mounted read-only.",
    errno.EACCES: "This process may not write there: check owner and mode of the folder.",
    errno.EPERM: "This process may not write there: check owner and mode of the folder.",
    errno.ESTALE: "The NFS server has lost the folder: mount it again.",
    errno.EXDEV: "All of the storage root must be one file system.",
}


class ConfinedRoot:
    """The storage root and its folders, as open file descriptors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = False

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        """Yield the root's descriptor. It is made on first use, and only then.

        A root that was there and is gone is a lost mount: making it again would
        fill the local disk with files that nobody finds.
        """
        if not self._seen:
            self._make()
        try:
            root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _root_missing(self.path) from error
        self._seen = True
        try:
            yield root
        finally:
            os.close(root)

    def _make(self) -> None:
        # Only the last folder is made, so that a missing mount point is an error.
        with contextlib.suppress(FileExistsError):
            try:
                self.path.mkdir(FOLDER_MODE)
            except OSError as error:
                if isinstance(error, FileExistsError):
                    raise
                raise _root_missing(self.path) from error

    @contextlib.contextmanager
    def folder(self, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """Yield the descriptor of a folder below the root; FileNotFoundError when it is missing."""
        with self.open() as root:
            current = os.dup(root)
            try:
                for part in parts:
                    following = _enter(current, part, create=create)
                    os.close(current)
                    current = following
                yield current
            finally:
                os.close(current)


def open_file(folder: int, name: str) -> int:
    """Return a descriptor to read a plain file; links and special files are StorageKeyErrors."""
    try:
        file = os.open(name, _READ_FLAGS, dir_fd=folder)
    except OSError as error:
        refuse_link(folder, name)
        if error.errno == errno.ENXIO:
            raise _not_plain() from error
        raise
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    if stat.S_ISDIR(mode):
        raise FileNotFoundError(errno.ENOENT, "a folder, not a file")
    raise _not_plain()


def stat_file(folder: int, name: str) -> os.stat_result:
    """Return the facts of a plain file, with the errors of `open_file`."""
    facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISREG(facts.st_mode):
        return facts
    if stat.S_ISDIR(facts.st_mode):
        raise FileNotFoundError(errno.ENOENT, "a folder, not a file")
    raise _not_plain()


def refuse_link(folder: int, name: str) -> None:
    """Raise StorageKeyError when the name is a symbolic link; else return."""
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return
    if stat.S_ISLNK(facts.st_mode):
        raise _not_plain()


@contextlib.contextmanager
def translated(key: str) -> Iterator[None]:
    """Turn the operating system's errors into the storage's own, naming the key, not the path."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageNotFound(f"There is no file '{key}' on the storage.") from error
    except OSError as error:
        raise _translate(key, error) from error


def _translate(key: str, error: OSError) -> Exception:
    if error.errno in _TAKEN:
        return StorageConflict(f"'{key}' is taken, or a part of it is a file.")
    if error.errno == errno.ENAMETOOLONG:
        return StorageKeyError("The key is too long for this storage.")
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    hint = _HINTS.get(error.errno or 0, "Check the folder or mount that storage.url names.")
    return StorageUnavailable(f"The storage failed at '{key}': {reason}.", hint=hint)


def _enter(folder: int, part: str, *, create: bool) -> int:
    try:
        return os.open(part, _FOLDER_FLAGS, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
    except NotADirectoryError:
        refuse_link(folder, part)
        raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, FOLDER_MODE, dir_fd=folder)
        os.fsync(folder)
    return os.open(part, _FOLDER_FLAGS, dir_fd=folder)


def _not_plain() -> StorageKeyError:
    return StorageKeyError("The key leads over a symbolic link or to something that is no file.")


def _root_missing(path: Path) -> StorageUnavailable:
    return StorageUnavailable(
        "The storage's root folder is missing.",
        hint=f"Make or mount '{path}', or change storage.url.",
    )
