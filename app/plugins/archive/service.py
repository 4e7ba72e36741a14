"""From one archive to a folder of files: all of it appears at once, or nothing.

The files are written to a temporary folder and moved in one step. Their names are
numbers that we choose; what the archive calls a member is only written down. A
second attempt of the same task finds the manifest of the first one and returns it.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from app import Retry
from app.plugins.archive.errors import ArchiveMissing, ArchiveUnusable, TargetTaken
from app.plugins.archive.schemas import (
    ExpandedArchive,
    ExpandedFile,
    Manifest,
    RejectedFile,
    SkippedFile,
)
from app.plugins.archive.settings import ArchiveSettings
from app.storage import StorageConflict, StorageNotFound, StorageUnavailable, SyncStorage
from app.storage.safe_zip import ArchiveRefused, ArchiveReport, Member, read_archive

TEMPORARY_FOLDER = "tmp/archive"
MANIFEST = "manifest.json"
_SUFFIX = re.compile(r"\.[a-z0-9]{1,10}")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveExpander:
    """Expands one archive for one attempt of a task. Blocking."""

    storage: SyncStorage
    settings: ArchiveSettings
    task_id: str
    attempt: int
    progress: Progress

    def expand(self, source: str, target: str) -> ExpandedArchive:
        """Return the files below `target`.

        Raises ArchiveMissing, ArchiveUnusable or TargetTaken, after which nothing was written;
        StorageUnavailable when the storage fails, Retry when another attempt of the task is at
        work, and what `progress` raises.
        """
        earlier = self._earlier(target)
        if earlier is not None:
            return earlier
        if self.storage.list(target):
            raise TargetTaken(f"The folder '{target}' is not empty; name another target.")
        try:
            return self._expand(source, target)
        except ArchiveRefused as error:
            raise ArchiveUnusable(error.detail) from error
        except StorageNotFound as error:
            raise ArchiveMissing(f"There is no file '{source}' on the storage.") from error

    def _earlier(self, target: str) -> ExpandedArchive | None:
        """Return what an earlier attempt of this task left behind, complete."""
        try:
            manifest = Manifest.model_validate_json(self.storage.get(f"{target}/{MANIFEST}"))
        except (StorageNotFound, ValueError):
            return None
        return manifest.result if manifest.task_id == self.task_id else None

    def _expand(self, source: str, target: str) -> ExpandedArchive:
        with (
            self.storage.open_reader(source) as file,
            read_archive(file, self.settings.zip_limits()) as report,
            self._temporary_folder() as folder,
        ):
            files = [
                self._write(number, member, folder, target, len(report.members))
                for number, member in enumerate(report.members, start=1)
            ]
            result = self._result(source, target, report, files)
            manifest = Manifest(task_id=self.task_id, result=result)
            self.storage.put(f"{folder}/{MANIFEST}", manifest.model_dump_json().encode())
            return self._publish(folder, result)

    @contextlib.contextmanager
    def _temporary_folder(self) -> Iterator[str]:
        ours = f"{TEMPORARY_FOLDER}/{self.task_id}"
        # What a killed attempt left; an attempt that still runs has a folder of its own number.
        self.storage.delete_prefix(ours)
        folder = f"{ours}/{self.attempt}"
        try:
            yield folder
        finally:
            # A storage that fails here has failed before, with the better message.
            with contextlib.suppress(StorageUnavailable):
                self.storage.delete_prefix(folder)

    def _write(
        self, number: int, member: Member, folder: str, target: str, total: int
    ) -> ExpandedFile:
        place = f"files/{number:06d}{_safe_suffix(member.name)}"
        digest = hashlib.sha256()

        def chunks() -> Iterator[bytes]:
            for chunk in member.chunks():
                digest.update(chunk)
                yield chunk

        size = self.storage.put_stream(f"{folder}/{place}", chunks())
        self.progress(number, total)
        return ExpandedFile(
            name=member.name, key=f"{target}/{place}", size_bytes=size, sha256=digest.hexdigest()
        )

    def _publish(self, folder: str, result: ExpandedArchive) -> ExpandedArchive:
        """Move the folder to the target, unless another attempt has overtaken this one."""
        # A later attempt removes our folder, in one step, and what we wrote after that is a part
        # only. When it is removed after this look, there is nothing left to move.
        written = [key.removeprefix(folder) for key in self.storage.list(folder)]
        expected = [file.key.removeprefix(result.target) for file in result.files]
        if written == [*expected, f"/{MANIFEST}"]:
            with contextlib.suppress(StorageConflict, StorageNotFound):
                self.storage.move_prefix(folder, result.target)
                return result
        earlier = self._earlier(result.target)
        if earlier is not None:
            return earlier
        if self.storage.list(result.target):
            raise TargetTaken(f"The folder '{result.target}' was taken meanwhile.")
        raise Retry("Another attempt of this task has overtaken this one.")

    def _result(
        self, source: str, target: str, report: ArchiveReport, files: list[ExpandedFile]
    ) -> ExpandedArchive:
        shown = self.settings.max_reported
        return ExpandedArchive(
            source=source,
            target=target,
            outcome=report.outcome,
            files=files,
            total_bytes=sum(file.size_bytes for file in files),
            rejected=[
                RejectedFile(name=bad.name, reason_code=bad.reason_code, message=bad.message)
                for bad in report.rejected[:shown]
            ],
            rejected_count=len(report.rejected),
            skipped=[
                SkippedFile(name=skipped.name, reason_code=skipped.reason_code)
                for skipped in report.skipped[:shown]
            ],
            skipped_count=len(report.skipped),
        )


def _safe_suffix(name: str) -> str:
    """Return the name's ending when it is short and plain, so that tools know the file's kind."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if _SUFFIX.fullmatch(suffix) else ""
