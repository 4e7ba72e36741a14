"""Every archive of the reader's own tests, as the archive of a job."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from app.common.ids import new_id
from app.plugins.lint import repository
from app.plugins.lint.caching import KnownLints
from app.plugins.lint.expanding import ArchiveExpander
from app.plugins.lint.models import JobStatus, LintingJob, SubmissionType
from app.plugins.lint.settings import LintSettings
from app.redis import BlockingCache
from app.storage.local import LocalStorage
from tests.contract.plugins.lint.yard import BIND, Yard
from tests.unit.storage.test_zip_members import CONFLICTS, IN_THE_DIRECTORY
from tests.unit.storage.test_zip_structure import BROKEN, WRONG_TYPES
from tests.unit.storage.zip_builder import SQL, Item, build

Expand = Callable[[bytes], tuple[JobStatus, dict[str, str | None]]]


@pytest.fixture
def expand(yard: Yard, tmp_path: Path) -> Expand:
    """Expand an archive as a job of its own; return the job's status and the files' outcomes."""
    settings = LintSettings(cache_seconds=0, max_archive_bytes=64 * 2**20)
    (tmp_path / "root").mkdir()
    storage = LocalStorage(tmp_path / "root" / "files")
    known_lints = KnownLints(BlockingCache(yard.worker.cache, yard.runner.run), settings)

    def one(data: bytes) -> tuple[JobStatus, dict[str, str | None]]:
        job_id = f"job-{new_id()}"
        key = f"jobs/{job_id}/source/upload.zip"
        storage.put(key, data)
        job = LintingJob(
            job_id=job_id,
            status=JobStatus.ACCEPTED,
            submission_type=SubmissionType.ZIP_ARCHIVE,
            source_path=key,
            created_by="somebody",
        )
        with yard.worker.databases.sync_transaction(BIND) as session:
            session.add(job)
        databases = yard.worker.databases
        expander = ArchiveExpander(databases, storage, settings, known_lints, lambda *_: None)
        status = expander.expand(job_id).status
        with yard.worker.databases.sync_transaction(BIND) as session:
            rows = repository.tasks_of(session, job_id)
            outcomes = {str(row.file_name): row.outcome for row in rows}
        check_folder(tmp_path, job_id, len(rows))
        storage.delete_prefix(f"jobs/{job_id}")
        return status, outcomes

    return one


def check_folder(tmp_path: Path, job_id: str, rows: int) -> None:
    """Nothing lies outside of the job's folder; in it are plain files under names of ours."""
    root = tmp_path / "root"
    assert list(tmp_path.iterdir()) == [root]
    assert list(root.iterdir()) == [root / "files"]
    assert [path.name for path in (root / "files/jobs").iterdir()] == [job_id]
    files = [path for path in (root / "files/jobs" / job_id).rglob("*") if not path.is_dir()]
    assert all(path.parent.name == "source" for path in files)
    assert len(files) <= rows + 1
    for path in files:
        mode = path.lstat().st_mode
        assert stat.S_ISREG(mode)
        assert not mode & (stat.S_ISUID | stat.S_ISGID | 0o111)


def test_a_bad_member_is_reported_and_the_good_ones_are_rows(expand: Expand) -> None:
    for name, (item, reason) in IN_THE_DIRECTORY.items():
        good = [Item(b"first.sql"), Item(b"last.sql", data=SQL * 2)]
        status, outcomes = expand(build(good[0], item, good[1]))
        assert status == "PROCESSING", (name, reason)
        assert [outcomes.pop(one) for one in ("first.sql", "last.sql")] == [None, None], name
        assert set(outcomes.values()) == {"rejected"}, name


def test_names_that_conflict_are_all_rejected(expand: Expand) -> None:
    for name, (names, reasons) in CONFLICTS.items():
        _, outcomes = expand(build(Item(), *(Item(one) for one in names)))
        assert outcomes.pop("good.sql") is None, name
        assert set(outcomes.values()) <= {"rejected"}, (name, reasons)


def test_a_broken_archive_ends_its_job(expand: Expand) -> None:
    for name, data in WRONG_TYPES.items():
        assert expand(data) == (JobStatus.FAILED, {}), name
    for name, (data, _) in BROKEN.items():
        status, outcomes = expand(data)
        assert status == JobStatus.FAILED, name
        assert set(outcomes.values()) <= {"rejected"}, name
