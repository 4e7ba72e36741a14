"""The only reader of ZIP archives in the product.

`read_archive` proves every member before it returns: the structure to the
letter, then each member's data unpacked once, counted and thrown away. What it
reports as a member is good; what it reports as rejected is bad for a stated
reason; an archive whose structure is in doubt is refused as a whole. Names are
data: nothing here or later joins one to a path. Archives inside an archive are
plain members.

The reader holds one piece of the archive at a time, whatever its size.
"""

import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NamedTuple, Self

from app.storage.zip_directory import Entry, read_directory
from app.storage.zip_errors import ArchiveRefused, MemberRefused, RejectedMember
from app.storage.zip_extra import AES
from app.storage.zip_inflate import DEFLATED, STORED, Budget, unpack
from app.storage.zip_layout import data_offsets
from app.storage.zip_limits import ZipLimits
from app.storage.zip_names import (
    check_name,
    comparable,
    decode_name,
    hidden_reason,
    shown_name,
)
from app.storage.zip_source import ArchiveData, ByteSource

__all__ = [
    "ArchiveData",
    "ArchiveRefused",
    "ArchiveReport",
    "Member",
    "RejectedMember",
    "SkippedMember",
    "ZipLimits",
    "read_archive",
]

_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_PATCHED = 1 << 5
_AES_METHOD = 99
# Honest packers never need more than this: deflate falls back to stored blocks.
_SLACK_BYTES = 1024
# What deflate makes of nothing; some packers write it for a folder.
_EMPTY_PACKED_BYTES = 2


@dataclass(frozen=True, slots=True)
class Member:
    """One good member. `name` is what the packer called it: show it, never use it as a path."""

    name: str
    size: int
    _source: ByteSource
    _entry: Entry
    _data_at: int
    _limits: ZipLimits

    def read(self) -> bytes:
        """Return the member's bytes, proven once more; ArchiveRefused when they have changed."""
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """Yield the member's bytes in pieces of at most 64 KiB; see `read`."""
        budget = Budget(self._limits.max_cpu_seconds)
        try:
            yield from unpack(self._source, self._entry, self._data_at, budget)
        except MemberRefused as error:
            raise ArchiveRefused(
                "ARCHIVE_CHANGED", "The archive changed while it was read; send it again."
            ) from error


class SkippedMember(NamedTuple):
    """A member that is left out without being bad: what a system or a tool put there."""

    name: str
    reason_code: str


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What an archive holds, in its own order. Close it, or use it as a context."""

    members: tuple[Member, ...]
    rejected: tuple[RejectedMember, ...]
    skipped: tuple[SkippedMember, ...]
    directories: int
    _source: ByteSource

    @property
    def outcome(self) -> Literal["accepted", "partial"]:
        """Return "partial" when a member was rejected."""
        return "partial" if self.rejected else "accepted"

    def close(self) -> None:
        """Close the file if the archive was given as a path."""
        self._source.close()

    def __enter__(self) -> Self:
        """Return the report."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the report."""
        self.close()


def read_archive(data: ArchiveData, limits: ZipLimits | None = None) -> ArchiveReport:
    """Return the archive's good, bad and skipped members.

    `data` is bytes, a memory map, an open binary file (which the caller closes
    after the report) or a path. Raises ArchiveRefused for an archive that is
    bad as a whole, or of which nothing can be used; StorageUnavailable when the
    file cannot be read.
    """
    source = ByteSource(data)
    try:
        return _Reader(source, limits or ZipLimits()).report()
    except BaseException:
        source.close()
        raise


class _Reader:
    def __init__(self, source: ByteSource, limits: ZipLimits) -> None:
        self._source = source
        self._limits = limits
        self._budget = Budget(limits.max_cpu_seconds)
        self._members: list[Member] = []
        self._rejected: list[RejectedMember] = []
        self._skipped: list[SkippedMember] = []
        self._directories = 0

    def report(self) -> ArchiveReport:
        directory = read_directory(self._source, self._limits)
        offsets = data_offsets(self._source, directory)
        if sum(entry.size for entry in directory.entries) > self._limits.max_total_bytes:
            raise ArchiveRefused(
                "TOTAL_SIZE_TOO_LARGE",
                f"The archive unpacks to more than {self._limits.max_total_bytes} bytes; split it.",
            )
        names = [self._name(entry) for entry in directory.entries]
        conflicts = _Conflicts([name for name in names if isinstance(name, str)])
        for index, (entry, name) in enumerate(zip(directory.entries, names, strict=True)):
            try:
                self._sort_in(entry, name, offsets[index], conflicts)
            except MemberRefused as error:
                self._reject(entry, error)
        if self._rejected and not self._members:
            raise self._nothing_usable()
        return ArchiveReport(
            tuple(self._members),
            tuple(self._rejected),
            tuple(self._skipped),
            self._directories,
            self._source,
        )

    def _name(self, entry: Entry) -> str | MemberRefused:
        self._budget.check()
        try:
            name = decode_name(entry)
            check_name(name, self._limits)
        except MemberRefused as error:
            return error
        return name

    def _sort_in(
        self, entry: Entry, name: str | MemberRefused, data_at: int, conflicts: "_Conflicts"
    ) -> None:
        if isinstance(name, MemberRefused):
            raise name
        is_directory = name.endswith("/")
        _check_type(entry, is_directory=is_directory)
        if is_directory:
            self._directories += 1
            return
        if reason := hidden_reason(name, skip_hidden=self._limits.skip_hidden):
            self._skipped.append(SkippedMember(name, reason))
            return
        conflicts.check(name)
        _check_data(entry, self._limits)
        for _ in unpack(self._source, entry, data_at, self._budget):
            pass
        self._members.append(Member(name, entry.size, self._source, entry, data_at, self._limits))

    def _reject(self, entry: Entry, error: MemberRefused) -> None:
        name = shown_name(entry.raw_name)
        self._rejected.append(RejectedMember(name, error.reason_code, error.message))

    def _nothing_usable(self) -> ArchiveRefused:
        first = self._rejected[0]
        others = len(self._rejected) - 1
        more = f" ({others} more are bad too)" if others else ""
        return ArchiveRefused(
            "NO_USABLE_MEMBERS",
            f"The archive holds no usable file. '{first.name}': {first.message}{more}",
            rejected=self._rejected,
        )


class _Conflicts:
    """Names that would be one file, or a file and its own folder, on some file system."""

    def __init__(self, names: list[str]) -> None:
        self._exact = Counter(names)
        files = Counter(comparable(name) for name in names if not name.endswith("/"))
        self._taken = {key for key, count in files.items() if count > 1}
        for name in names:
            key, is_directory = comparable(name), name.endswith("/")
            for folder in _folders_of(key, itself=is_directory):
                if folder in files:
                    self._taken |= {folder, key}

    def check(self, name: str) -> None:
        """Raise MemberRefused for every member of a conflict: none of them is the right one."""
        if self._exact[name] > 1:
            raise MemberRefused("DUPLICATE_NAME", "The archive holds this name more than once.")
        if comparable(name) in self._taken:
            raise MemberRefused(
                "NAME_CONFLICT", "Another member's name differs only in case, or is its folder."
            )


def _folders_of(key: str, *, itself: bool) -> Iterator[str]:
    parts = key.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts) + itself))


def _check_type(entry: Entry, *, is_directory: bool) -> None:
    mode = entry.attributes >> 16
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        raise MemberRefused("SYMLINK", "It is a symbolic link; pack the file itself.")
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise MemberRefused("SPECIAL_FILE", "It is a device, pipe or socket, not a file.")
    if kind and (kind == stat.S_IFDIR) != is_directory:
        raise MemberRefused("TYPE_MISMATCH", "It is a file by its name and a folder by its mode.")
    if mode & (stat.S_ISUID | stat.S_ISGID) and not is_directory:
        raise MemberRefused("SETUID_MODE", "It would run with another user's rights.")
    if is_directory and (entry.size or entry.packed_size > _EMPTY_PACKED_BYTES):
        raise MemberRefused("FOLDER_WITH_DATA", "It is a folder that holds data.")


def _check_data(entry: Entry, limits: ZipLimits) -> None:
    if entry.flags & _ENCRYPTED or entry.method == _AES_METHOD or AES in entry.extra:
        raise MemberRefused("ENCRYPTED", "It is encrypted; pack it without a password.")
    if entry.flags & _PATCHED or entry.method not in {STORED, DEFLATED}:
        raise MemberRefused(
            "METHOD_UNSUPPORTED", "It is packed by another method than deflate; pack it again."
        )
    if entry.size > limits.max_member_bytes:
        raise MemberRefused(
            "MEMBER_TOO_LARGE", f"It unpacks to more than {limits.max_member_bytes} bytes."
        )
    if entry.method == STORED and entry.size != entry.packed_size:
        raise MemberRefused("SIZE_MISMATCH", "It unpacks to another size than it declares.")
    if entry.size > max(limits.ratio_free_bytes, limits.max_ratio * entry.packed_size):
        raise MemberRefused(
            "RATIO_TOO_HIGH", f"It unpacks to more than {limits.max_ratio} times its size."
        )
    if entry.packed_size > 2 * entry.size + _SLACK_BYTES:
        raise MemberRefused("SIZE_MISMATCH", "Its packed data is larger than its content needs.")
