"""Faults of ours: what is retried, what is given up, what is taken back, what is closed later."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, update

from app.auth.principal import Principal
from app.common.clock import utc_now
from app.common.ids import new_id
from app.db import Databases
from app.db.errors import DatabaseUnavailable
from app.plugins.lint import repository
from app.plugins.lint.models import LintingJob, LintingTask
from app.plugins.lint.options import Wish
from app.plugins.lint.repository import JobFilters
from app.plugins.lint.service import LintJobs
from app.plugins.lint.settings import LintSettings
from app.storage import Storage
from app.tasks.models import TaskRun
from app.tasks.runs import Runs
from tests.contract.plugins.lint.yard import BIND, Yard, packed

SQL = "SELECT a FROM b\n"
RUNS = "postgres_main"


@pytest.fixture
def unreadable(yard: Yard) -> Iterator[None]:
    """A storage that cannot be used, until the test puts it back."""
    hidden = yard.storage.with_name("hidden")
    yard.storage.rename(hidden)
    yard.storage.write_text("in the way")
    yield
    if hidden.exists():
        yard.storage.unlink()
        hidden.rename(yard.storage)


def _put_back(yard: Yard) -> None:
    yard.storage.unlink()
    yard.storage.with_name("hidden").rename(yard.storage)


def deliver_all_attempts(yard: Yard, run_id: str) -> None:
    for _ in range(6):
        with yard.worker.databases.sync_begin(RUNS) as connection:
            connection.execute(
                update(TaskRun)
                .where(TaskRun.id == run_id, TaskRun.status == "RETRYING")
                .values(scheduled_for=utc_now() - timedelta(seconds=1))
            )
        yard.deliver(run_id)
    yard.seen.add(run_id)


def _age(yard: Yard, job_id: str) -> None:
    with yard.worker.databases.sync_transaction(BIND) as session:
        for table in (LintingJob, LintingTask):
            session.execute(
                update(table)
                .where(table.job_id == job_id)
                .values(updated_at=utc_now() - timedelta(minutes=1))
            )


def _run_id(yard: Yard, job_id: str) -> str:
    return str(yard.rows(job_id)[0].run_id)


def test_a_storage_fault_is_retried_and_the_file_is_linted(
    yard: Yard, request: pytest.FixtureRequest
) -> None:
    job_id = yard.submit(sql_content=SQL)
    request.getfixturevalue("unreadable")
    run_id = _run_id(yard, job_id)
    yard.deliver(run_id)
    assert yard.run_status(run_id)["status"] == "RETRYING"
    assert yard.job(job_id)["job_status"] == "PROCESSING"
    assert yard.job(job_id)["sub_tasks"]["items"][0]["status"] == "IN_PROGRESS"
    _put_back(yard)
    deliver_all_attempts(yard, run_id)
    assert yard.job(job_id)["job_status"] == "COMPLETED"


def test_a_file_is_given_up_after_the_last_attempt_and_can_be_run_again(
    yard: Yard, request: pytest.FixtureRequest
) -> None:
    job_id = yard.submit(sql_content=SQL)
    request.getfixturevalue("unreadable")
    run_id = _run_id(yard, job_id)
    deliver_all_attempts(yard, run_id)
    assert yard.run_status(run_id)["status"] == "FAILED"
    assert yard.run_status(run_id)["attempt"] == 5
    job = yard.job(job_id)
    assert job["job_status"] == "FAILED"
    assert "Storage" in job["sub_tasks"]["items"][0]["error_message"]
    _put_back(yard)
    again = yard.call(
        "POST",
        "/api/v1/tasks/run",
        json={"task": "lint.process_sql_file", "params": {"task_id": run_id}},
    ).json()["task_id"]
    yard.work()
    assert yard.run_status(again)["status"] == "SUCCEEDED"
    job = yard.job(job_id)
    assert job["job_status"] == "COMPLETED"
    assert "error_message" not in job["sub_tasks"]["items"][0]


def test_an_archive_is_given_up_after_the_last_attempt(
    yard: Yard, request: pytest.FixtureRequest
) -> None:
    job_id = yard.submit_zip({"a.sql": SQL.encode()})
    request.getfixturevalue("unreadable")
    run_id = _run_id(yard, job_id)
    deliver_all_attempts(yard, run_id)
    assert yard.run_status(run_id)["status"] == "FAILED"
    assert yard.run_status(run_id)["dead_letter_id"]
    job = yard.job(job_id)
    assert job["job_status"] == "FAILED"
    assert "Submit it again" in job["error_message"]


def test_a_storage_fault_at_submission_is_503_and_leaves_no_row(
    yard: Yard, unreadable: None
) -> None:
    before = yard.call("GET", "/api/v1/jobs?limit=1").json()["items"]
    assert yard.call("POST", "/api/v1/jobs", json={"sql_content": SQL}).status_code == 503
    assert yard.call("GET", "/api/v1/jobs?limit=1").json()["items"] == before


class FailingSubmission:
    async def submit(self, *_arguments: object, **_options: object) -> None:
        raise DatabaseUnavailable(RUNS)


@dataclass
class FailingServices:
    databases: Databases
    storage: Storage
    runs: Runs
    submission: Any = field(default_factory=FailingSubmission)


def test_a_submission_that_fails_takes_rows_and_files_back(yard: Yard) -> None:
    services = FailingServices(yard.worker.databases, yard.worker.storage, yard.worker.runs)
    jobs = LintJobs(services, LintSettings())
    caller = Principal("x", "x", "user", "operator", frozenset({"tasks:run"}))
    folders = {path for path in yard.storage.rglob("jobs/*/source/*") if path.is_file()}

    async def submit() -> list[LintingJob]:
        order = await jobs.ordering.read(caller, Wish(), None, None)
        with pytest.raises(DatabaseUnavailable):
            await jobs.submit(caller, order, sql_content=SQL, zip_file_path=None)
        return await jobs.list(caller, JobFilters(), before=None, limit=10)

    assert yard.runner.run(submit()) == []
    assert {p for p in yard.storage.rglob("jobs/*/source/*") if p.is_file()} == folders


@pytest.mark.parametrize(
    ("status", "words"),
    [("FAILED", "failed for good"), ("CANCELLED", "cancelled"), ("EXPIRED", "not started in time")],
)
def test_a_file_whose_run_ended_without_a_word_is_closed(
    yard: Yard, status: str, words: str
) -> None:
    job_id = yard.submit(sql_content=SQL)
    run_id = _run_id(yard, job_id)
    yard.seen.add(run_id)
    with yard.worker.databases.sync_begin(RUNS) as connection:
        connection.execute(update(TaskRun).where(TaskRun.id == run_id).values(status=status))
    assert yard.job(job_id)["job_status"] == "ACCEPTED"
    _age(yard, job_id)
    job = yard.job(job_id)
    assert job["job_status"] == "FAILED"
    (item,) = job["sub_tasks"]["items"]
    assert item["status"] == "FAILURE"
    assert words in item["error_message"]


def test_a_job_that_was_never_submitted_is_closed(yard: Yard) -> None:
    single, archive = yard.submit(sql_content=SQL), yard.submit_zip({"a.sql": b"SELECT 1\n"})
    for job_id in (single, archive):
        run_id = _run_id(yard, job_id)
        yard.seen.add(run_id)
        with yard.worker.databases.sync_begin(RUNS) as connection:
            connection.execute(delete(TaskRun).where(TaskRun.id == run_id))
        _age(yard, job_id)
        assert yard.job(job_id)["job_status"] == "FAILED"
    assert "never accepted" in yard.job(archive)["error_message"]


def test_a_job_whose_runs_still_wait_or_work_is_left_alone(yard: Yard) -> None:
    job_id = yard.submit(sql_content=SQL)
    _age(yard, job_id)
    assert yard.job(job_id)["job_status"] == "ACCEPTED"
    yard.work()
    assert yard.job(job_id)["job_status"] == "COMPLETED"


def test_a_cancelled_expansion_ends_its_job(yard: Yard) -> None:
    members = {f"{n:03d}.sql": b"SELECT 1\n" for n in range(60)}
    (yard.storage / "archives").mkdir(parents=True, exist_ok=True)
    (yard.storage / "archives/cancel.zip").write_bytes(packed(members))
    job_id = yard.submit(zip_file_path="archives/cancel.zip")
    run_id = _run_id(yard, job_id)
    assert yard.call("POST", f"/api/v1/tasks/{run_id}/cancel").status_code == 202
    _age(yard, job_id)
    job = yard.job(job_id)
    assert job["job_status"] == "FAILED"
    assert "cancelled" in job["error_message"]
    yard.work()
    assert yard.job(job_id)["sub_tasks"]["total"] == 0


@pytest.mark.parametrize(
    ("statuses", "message", "expected"),
    [
        (["SUCCESS"], None, "COMPLETED"),
        (["SUCCESS", "SUCCESS"], None, "COMPLETED"),
        (["SUCCESS", "FAILURE"], None, "PARTIALLY_COMPLETED"),
        (["FAILURE", "FAILURE"], None, "FAILED"),
        (["SUCCESS", "PENDING"], None, "PROCESSING"),
        (["FAILURE", "IN_PROGRESS"], None, "PROCESSING"),
        (["SUCCESS"], "something was lost", "PARTIALLY_COMPLETED"),
        ([], "nothing in it", "FAILED"),
    ],
)
def test_the_status_of_a_job_follows_from_its_files(
    yard: Yard, statuses: list[str], message: str | None, expected: str
) -> None:
    job_id = f"job-{new_id()}"
    with yard.worker.databases.sync_transaction(BIND) as session:
        session.add(
            LintingJob(
                job_id=job_id,
                status="PROCESSING",
                submission_type="ZIP_ARCHIVE",
                source_path="a.zip",
                error_message=message,
            )
        )
        session.add_all(
            LintingTask(task_id=new_id(), job_id=job_id, status=status, source_file_path="a.sql")
            for status in statuses
        )
    with yard.worker.databases.sync_transaction(BIND) as session:
        job = repository.lock_job(session, job_id)
        assert job is not None
        repository.derive_job_status(session, job)
    assert yard.rows(job_id)[0].status == expected
