"""Jobs that nobody looks at: closed after a crash between the two databases, deleted when old."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from app.common.clock import utc_now
from app.plugins.lint import file_rows
from app.plugins.lint.models import FileStatus, LintingJob, LintingTask
from app.plugins.lint.repository import FileOutcome
from app.plugins.lint.settings import LintSettings
from app.plugins.lint.tidying import Tidied, Tidying
from app.tasks.models import TaskRun
from tests.contract.plugins.lint.yard import BIND, Yard

SQL = "SELECT 1\n"
LINTED = FileOutcome(status=FileStatus.SUCCESS, outcome="linted")


@pytest.fixture(autouse=True)
def no_jobs(yard: Yard) -> None:
    """Forget the jobs of other tests: an old one behind a young one is not found."""
    with yard.worker.databases.sync_begin(BIND) as connection:
        for table in (LintingTask, LintingJob):
            connection.execute(delete(table))


def tidy(yard: Yard, clock: Any = None, **settings: Any) -> Tidied:
    more = {"clock": clock} if clock else {}
    tidying = Tidying(yard.worker.databases, yard.worker.storage, LintSettings(**settings), **more)
    return yard.runner.run(tidying.tidy())


def tidy_by_its_run(yard: Yard) -> dict[str, Any]:
    """Run the task as its schedule does, and return its result."""
    accepted = yard.call("POST", "/api/v1/tasks/run", json={"task": "lint.tidy_jobs"})
    assert accepted.status_code == 202, accepted.text
    yard.deliver(accepted.json()["task_id"])
    run = yard.run_status(accepted.json()["task_id"])
    assert run["status"] == "SUCCEEDED", run
    result: dict[str, Any] = run["result"]
    return result


def make_old(yard: Yard, job_id: str, **age: float) -> None:
    before = utc_now() - timedelta(**age)
    with yard.worker.databases.sync_transaction(BIND) as session:
        for table in (LintingJob, LintingTask):
            row = update(table).where(table.job_id == job_id)
            session.execute(row.values(updated_at=before, created_at=before))


def lose(yard: Yard, run_id: str) -> None:
    """Record the end of a run as the main database has it after its worker's last crash."""
    change = update(TaskRun).where(TaskRun.id == run_id)
    with yard.worker.databases.sync_begin("postgres_main") as connection:
        connection.execute(change.values(status="FAILED"))


def test_a_job_whose_run_was_lost_is_closed_though_nobody_looks(yard: Yard) -> None:
    lost, waiting = yard.submit(sql_content=SQL), yard.submit(sql_content=SQL)
    (task,) = yard.rows(lost)[1]
    with yard.worker.databases.sync_begin(BIND) as connection:
        file_rows.start_file(connection, task.task_id)
    lose(yard, task.task_id)
    for job_id in (lost, waiting):
        make_old(yard, job_id, minutes=1)
    assert tidy_by_its_run(yard) == {"closed": 1, "purged": 0, "is_done": True}
    job, (task,) = yard.rows(lost)
    assert (job.status, task.status, task.outcome) == ("FAILED", "FAILURE", "fault")
    assert yard.rows(waiting)[0].status == "ACCEPTED"


def test_a_job_whose_worker_died_behind_its_last_file_is_ended(yard: Yard) -> None:
    job_id = yard.submit_zip({"a.sql": b"SELECT 1\n", "b.sql": b"SELECT 2\n"})
    run_id = yard.rows(job_id)[0].run_id
    assert run_id
    yard._flush()  # noqa: SLF001 - only the archive's own message is delivered
    yard.deliver(run_id)
    job, tasks = yard.rows(job_id)
    for task in tasks:
        with yard.worker.databases.sync_begin(BIND) as connection:
            assert file_rows.end_file(connection, task.task_id, LINTED)
    assert job.status == "PROCESSING"
    assert tidy(yard).closed == 0
    make_old(yard, job_id, minutes=1)
    assert tidy(yard).closed == 1
    assert yard.rows(job_id)[0].status == "COMPLETED"


def test_ended_jobs_past_their_retention_are_deleted_with_rows_and_files(yard: Yard) -> None:
    old, young, unfinished = (yard.submit(sql_content=SQL) for _ in range(3))
    yard.seen.add(str(yard.rows(unfinished)[0].run_id))
    yard.work()
    make_old(yard, old, days=8)
    make_old(yard, unfinished, days=8)
    make_old(yard, young, days=6)
    folders = {job_id: yard.storage / "jobs" / job_id for job_id in (old, young, unfinished)}
    assert all(folder.is_dir() for folder in folders.values())
    assert tidy(yard, retention_days=0).purged == 0
    assert tidy(yard, retention_days=7) == Tidied(closed=0, purged=1, is_done=True)
    assert not folders[old].exists()
    assert yard.call("GET", f"/api/v1/jobs/{old}").status_code == 404
    for job_id in (young, unfinished):
        assert folders[job_id].is_dir()
        assert yard.rows(job_id)[1]
    with yard.worker.databases.sync_transaction(BIND) as session:
        assert session.query(LintingTask).filter_by(job_id=old).count() == 0


def test_a_round_ends_with_its_budget_and_the_next_one_goes_on(yard: Yard) -> None:
    jobs = [yard.submit(sql_content=SQL) for _ in range(3)]
    yard.work()
    for job_id in jobs:
        make_old(yard, job_id, days=8)
    moments = iter([0.0, 1.0, 2.0, *[99.0] * 9])
    first = tidy(yard, lambda: next(moments), retention_days=7, tidy_budget_seconds=10)
    assert first == Tidied(closed=0, purged=2, is_done=False)
    # Of the third the files are gone and its row tells so.
    assert not Path(yard.storage / "jobs" / jobs[2]).exists()
    assert yard.rows(jobs[2])[0].status == "COMPLETED"
    assert tidy(yard, retention_days=7) == Tidied(closed=0, purged=1, is_done=True)


def test_many_jobs_are_looked_at_page_by_page(yard: Yard) -> None:
    with yard.worker.databases.sync_transaction(BIND) as session:
        session.add_all(
            LintingJob(
                job_id=f"job-old-{number}",
                # An unfinished one without a file and a run is left alone.
                status="COMPLETED" if number % 2 else "PROCESSING",
                submission_type="SINGLE_FILE",
                source_path="a.sql",
                created_at=utc_now() - timedelta(days=40),
                updated_at=utc_now() - timedelta(days=40),
            )
            for number in range(250)
        )
    assert tidy(yard).purged == 125
    assert tidy(yard).purged == 0
