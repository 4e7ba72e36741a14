"""The earlier job that a job is compared with: which of its files is which, and what was found."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.db import Databases
from app.plugins.lint import repository
from app.plugins.lint.comparing import Mark, marks_of
from app.plugins.lint.judging import lost_marks
from app.plugins.lint.models import BIND
from app.plugins.lint.repository import NamedRow
from app.storage import SyncStorage
from app.storage.errors import StorageNotFound

# The key, in a job's options, of how many findings went with files that are gone.
GONE = "baseline_gone"


class NamedFile(NamedTuple):
    """A file of a job: the id of its task, and its name."""

    task_id: str
    name: str


@dataclass(frozen=True, slots=True)
class EarlierFindings:
    """Reads what was found in the files of an earlier job. Blocking."""

    databases: Databases
    storage: SyncStorage

    def marks_of(self, task_id: str | None) -> list[Mark]:
        """Return the marks of a file, none when there is no such file, or no longer."""
        if task_id is None:
            return []
        with self.databases.sync_transaction(BIND) as session:
            task = repository.find_task(session, task_id)
            key, outcome = (task.result_file_path, task.outcome) if task else (None, None)
        if key is None:
            return lost_marks(outcome) if outcome else []
        try:
            return marks_of(json.loads(self.storage.get(key)))
        except StorageNotFound:
            return []


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier job as the files of a later one see it; without one, everything is None.

    `earlier` has the earlier task id of each file that was there before, `gone` counts the
    findings of files that are not there any more.
    """

    findings: EarlierFindings | None = None
    earlier: Mapping[str, str] = field(default_factory=dict)
    gone: int = 0

    def task_id_of(self, task_id: str) -> str | None:
        """Return the id that the same file had in the earlier job."""
        return self.earlier.get(task_id)

    def marks_of(self, task_id: str) -> list[Mark] | None:
        """Return what was found in the same file then."""
        if self.findings is None:
            return None
        return self.findings.marks_of(self.task_id_of(task_id))

    def told_in(self, options: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return a job's options with what its rows cannot tell."""
        return {**(options or {}), GONE: self.gone} if self.gone else options


def baseline_of(
    rows: Sequence[NamedRow], files: Sequence[NamedFile], findings: EarlierFindings | None = None
) -> Baseline:
    """Return an earlier job, by its rows, as these files of a later one see it."""
    earlier = pair([NamedFile(row.task_id, row.name) for row in rows], files)
    taken = set(earlier.values())
    gone = sum(row.findings for row in rows if row.task_id not in taken)
    return Baseline(findings, earlier, gone)


def pair(before: Sequence[NamedFile], after: Sequence[NamedFile]) -> dict[str, str]:
    """Return the earlier task id of each later one that is the same file.

    The name decides; if all files of an archive lie in one folder, as code hosts pack them, that
    folder may have another name. Two jobs of one file each are about the same file.
    """
    if len(before) == len(after) == 1:
        return {after[0].task_id: before[0].task_id}
    free = {file.task_id for file in before}
    pairs: dict[str, str] = {}
    for key in (_whole, _without_folder):
        earlier = {name: file.task_id for name, file in key(before) if file.task_id in free}
        for name, file in key(after):
            found = earlier.get(name)
            if file.task_id not in pairs and found in free:
                pairs[file.task_id] = found
                free.remove(found)
    return pairs


def _whole(files: Sequence[NamedFile]) -> Iterable[tuple[str, NamedFile]]:
    return ((file.name, file) for file in files)


def _without_folder(files: Sequence[NamedFile]) -> Iterable[tuple[str, NamedFile]]:
    folders = {file.name.partition("/")[0] for file in files}
    if len(folders) > 1:
        return _whole(files)
    return ((file.name.partition("/")[2], file) for file in files)
