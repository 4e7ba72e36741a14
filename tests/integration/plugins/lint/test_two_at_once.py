"""Two workers finish the last two files of a job at the same moment, on MariaDB."""

import io
import threading
import zipfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.common.ids import new_id
from app.config.plugins import load_plugins
from app.config.settings import RedisSettings
from app.db import Databases, migrations
from app.plugins.lint import file_rows, repository
from app.plugins.lint.caching import KnownLints
from app.plugins.lint.expanding import ArchiveExpander, Expansion
from app.plugins.lint.linting import Linter
from app.plugins.lint.models import BIND, FileStatus, JobStatus, LintingJob, LintingTask
from app.plugins.lint.processing import FileProcessor
from app.plugins.lint.profiles import Profile
from app.plugins.lint.repository import FileOutcome
from app.plugins.lint.sandbox import Answer
from app.plugins.lint.settings import LintSettings
from app.redis import BlockingCache, open_cache
from app.storage.memory import MemoryStorage
from tests.contract.db.making import make_databases
from tests.services import Services

LINTED = FileOutcome(status=FileStatus.SUCCESS, outcome="linted")


@pytest.fixture(scope="module")
def databases(services: Services) -> Iterator[Databases]:
    opened = make_databases(services.create_database("mysql"), BIND)
    migrations.upgrade(opened, load_plugins(["lint"]), bind=BIND)
    yield opened
    opened.dispose_sync()


def _answer(_text: str, _profile: Profile, _deadline: float) -> Answer:
    statistics = {"source_chars": 8, "templated_chars": 8, "segments": 1, "raw_segments": 1}
    record = {
        "violations": [],
        "found": 0,
        "noqa_comments": 0,
        "statistics": statistics,
        "parsed": True,
    }
    return Answer("linted", record, engine={"name": "sqlfluff", "version": "1", "rust": True})


def _no_loop(_coroutine: Coroutine[Any, Any, Any]) -> Any:
    raise AssertionError("a cache that is switched off is not asked")


def _processor(databases: Databases) -> FileProcessor:
    storage = MemoryStorage()
    storage.put("a.sql", b"SELECT 1")
    return FileProcessor(databases, storage, Linter(LintSettings(), _answer))


def _new_job(databases: Databases, files: int) -> tuple[str, list[str]]:
    job_id, task_ids = f"job-{new_id()}", [new_id() for _ in range(files)]
    with databases.sync_transaction(BIND) as session:
        session.add(
            LintingJob(
                job_id=job_id,
                status="PROCESSING",
                submission_type="ZIP_ARCHIVE",
                source_path="a.zip",
            )
        )
        for task_id in task_ids:
            session.add(
                LintingTask(
                    task_id=task_id, job_id=job_id, status="PENDING", source_file_path="a.sql"
                )
            )
    return job_id, task_ids


def _status(databases: Databases, job_id: str) -> str:
    with databases.sync_transaction(BIND) as session:
        job = repository.find_job(session, job_id)
        assert job is not None
        return job.status


def test_whoever_commits_last_ends_the_job(databases: Databases) -> None:
    """A worker does not wait for a transaction that closes another file of its job."""
    job_id, (first, second) = _new_job(databases, 2)
    with databases.sync_transaction(BIND) as session:
        job = repository.lock_job(session, job_id)
        assert job is not None
        assert repository.record_outcomes(session, job, {first: LINTED}) == {first}
        assert job.status == "PROCESSING"
        thread = threading.Thread(target=_processor(databases).process, args=(second,))
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    # Neither has seen the other's outcome, so only the look after the commit can.
    assert _status(databases, job_id) == "PROCESSING"
    with databases.sync_transaction(BIND) as session:
        repository.settle_job(session, job_id)
    assert _status(databases, job_id) == "COMPLETED"


def test_a_file_that_a_worker_has_just_ended_is_not_closed(databases: Databases) -> None:
    job_id, (task_id,) = _new_job(databases, 1)
    closed = FileOutcome(status=FileStatus.FAILURE, outcome="cancelled")
    with databases.sync_transaction(BIND) as session:
        job = repository.lock_job(session, job_id)
        assert job is not None
        # What is read from here on is what was there before the worker's commit.
        assert len(repository.tasks_of(session, job_id)) == 1
        with databases.sync_begin(BIND) as connection:
            assert file_rows.end_file(connection, task_id, LINTED)
        assert repository.record_outcomes(session, job, {task_id: closed}) == frozenset()
    with databases.sync_transaction(BIND) as session:
        repository.settle_job(session, job_id)
        assert repository.tasks_of(session, job_id)[0].outcome == "linted"
    assert _status(databases, job_id) == "COMPLETED"


def test_an_attempt_that_died_before_it_looked_at_the_job_is_made_good(
    databases: Databases,
) -> None:
    job_id, (task_id,) = _new_job(databases, 1)
    with databases.sync_begin(BIND) as connection:
        assert file_rows.end_file(connection, task_id, LINTED)
    assert _status(databases, job_id) == "PROCESSING"
    assert _processor(databases).process(task_id).outcome == "linted"
    assert _status(databases, job_id) == "COMPLETED"


def test_many_files_of_many_jobs_at_once(databases: Databases) -> None:
    jobs = [_new_job(databases, 4) for _ in range(5)]
    processor = _processor(databases)
    errors: list[BaseException] = []

    def finish(task_id: str) -> None:
        try:
            processor.process(task_id)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    for job_id, task_ids in jobs:
        threads = [threading.Thread(target=finish, args=(task_id,)) for task_id in task_ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert errors == []
        assert _status(databases, job_id) == "COMPLETED"


def test_an_attempt_that_was_overtaken_changes_nothing(databases: Databases) -> None:
    job_id, (task_id,) = _new_job(databases, 1)

    def overtake(text: str, profile: Profile, deadline: float) -> Answer:
        assert _processor(databases).process(task_id).outcome == "linted"
        return Answer("timeout")

    slow = _processor(databases)
    slow = FileProcessor(databases, slow.storage, Linter(LintSettings(), overtake))
    assert slow.process(task_id).outcome == "linted"
    assert _status(databases, job_id) == "COMPLETED"


def test_an_expansion_that_was_overtaken_keeps_the_others_rows(databases: Databases) -> None:
    job_id, _ = _new_job(databases, 0)
    storage = MemoryStorage()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.sql", "SELECT 1")
    storage.put("a.zip", buffer.getvalue())
    first: list[Expansion] = []

    def overtake(_current: int, _total: int) -> None:
        if not first:
            first.append(Expansion(status=JobStatus.PROCESSING))
            first[0] = expand()

    def expand() -> Expansion:
        settings = LintSettings(cache_seconds=0)
        known_lints = KnownLints(BlockingCache(open_cache(RedisSettings()), _no_loop), settings)
        return ArchiveExpander(databases, storage, settings, known_lints, overtake).expand(job_id)

    second = expand()
    assert len(first[0].task_ids) == 1
    assert second.task_ids == first[0].task_ids
    with databases.sync_transaction(BIND) as session:
        assert len(repository.tasks_of(session, job_id)) == 1


def test_the_tables_keep_the_letter_of_older_clients(databases: Databases) -> None:
    with databases.sync_begin(BIND) as connection:
        created = {
            table: connection.exec_driver_sql(f"SHOW CREATE TABLE {table}").one()[1].lower()
            for table in ("linting_jobs", "linting_tasks")
        }
        connection.exec_driver_sql(
            "INSERT INTO linting_jobs (job_id, status, submission_type, source_path) "
            "VALUES ('job-by-hand', 'ACCEPTED', 'SINGLE_FILE', 'a.sql')"
        )
        row = connection.exec_driver_sql(
            "SELECT created_at = updated_at, ABS(TIMESTAMPDIFF(SECOND, created_at, "
            "UTC_TIMESTAMP(6))) FROM linting_jobs WHERE job_id = 'job-by-hand'"
        ).one()
        assert row[0] == 1
        assert row[1] < 60
    for text in created.values():
        assert (
            "`id` int(11) not null auto_increment" in text or "`id` int not null auto_incr" in text
        )
        assert "`created_at` datetime(6) not null default current_timestamp(6)" in text
        assert "on update current_timestamp(6)" in text
    assert (
        "enum('accepted','processing','completed','partially_completed','failed') not null"
        in created["linting_jobs"]
    )
    assert "enum('single_file','zip_archive') not null" in created["linting_jobs"]
    assert "unique key `uq_linting_jobs_job_id` (`job_id`)" in created["linting_jobs"]
    assert "enum('pending','in_progress','success','failure') not null" in created["linting_tasks"]
    assert "unique key `uq_linting_tasks_task_id` (`task_id`)" in created["linting_tasks"]
    assert "key `ix_linting_tasks_job_id` (`job_id`" in created["linting_tasks"]


@pytest.mark.parametrize("kind", ["sqlite", "mysql"])
def test_the_migration_goes_up_down_and_up_without_drift(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/lint.db"
    if kind == "mysql":
        url = request.getfixturevalue("services").create_database("mysql")
    databases, plugins = make_databases(url, BIND), load_plugins(["lint"])
    for plugin in plugins:
        plugin.load("models")
    for _ in range(2):
        migrations.upgrade(databases, plugins, bind=BIND)
        assert [drift.is_clean for drift in migrations.check(databases, plugins, bind=BIND)] == [
            True
        ]
        migrations.downgrade(databases, plugins, bind=BIND, to="base")
    databases.dispose_sync()
