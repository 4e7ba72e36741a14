"""Cancelling a job: what waits ends at once, for its rows and for its runs."""

from typing import Any

import pytest
from sqlalchemy import update

from app.plugins.lint import file_rows
from app.plugins.lint.caching import KnownLints
from app.plugins.lint.expanding import ArchiveExpander
from app.plugins.lint.settings import LintSettings
from app.redis import BlockingCache
from app.tasks.models import TaskRun
from tests.contract.plugins.lint.yard import Yard

SQL = b"SELECT a  FROM b\n"
MEMBERS = {f"{number}.sql": SQL + b"-- %d\n" % number for number in range(4)}


def cancel(yard: Yard, job_id: str, role: str = "operator") -> Any:
    return yard.call("POST", f"/api/v1/jobs/{job_id}/cancel", role)


def expand(yard: Yard, job_id: str) -> list[str]:
    """Read the job's archive as its run does; return the ids of its files' runs."""
    job, _ = yard.rows(job_id)
    assert job.run_id is not None
    yard.deliver(job.run_id)
    yard.seen.add(job.run_id)
    return [row.task_id for row in yard.rows(job_id)[1]]


def test_an_archive_that_nobody_has_read_is_never_read(yard: Yard) -> None:
    job_id = yard.submit_zip(MEMBERS)
    answer = cancel(yard, job_id)
    assert answer.status_code == 202, answer.text
    assert answer.json()["job_status"] == "FAILED"
    assert answer.json()["error_message"] == "The job was cancelled."
    run_id = yard.rows(job_id)[0].run_id or ""
    assert yard.run_status(run_id)["status"] == "CANCELLED"
    yard.work()
    job = yard.job(job_id)
    assert (job["job_status"], job["sub_tasks"]["total"]) == ("FAILED", 0)


def test_the_files_that_wait_are_not_linted(yard: Yard) -> None:
    job_id = yard.submit_zip(MEMBERS)
    first, *rest = expand(yard, job_id)
    yard.deliver(first)
    answer = cancel(yard, job_id)
    assert answer.status_code == 202, answer.text
    assert answer.json()["job_status"] == "PARTIALLY_COMPLETED"
    assert {yard.run_status(one)["status"] for one in rest} == {"CANCELLED"}
    assert yard.run_status(first)["status"] == "SUCCEEDED"
    yard.work()
    files = {item["task_id"]: item for item in yard.job(job_id)["sub_tasks"]["items"]}
    assert files[first]["status"] == "SUCCESS"
    assert {files[one]["status"] for one in rest} == {"FAILURE"}
    assert files[rest[0]]["error_message"] == "The file was not linted: the job was cancelled."
    events = yard.call("GET", f"/api/v1/tasks/{rest[0]}/events").json()["items"]
    assert [event["to"] for event in events][-1] == "CANCELLED"


def test_a_file_that_is_being_linted_is_finished(yard: Yard) -> None:
    job_id = yard.submit_zip(MEMBERS)
    first, *rest = expand(yard, job_id)
    start(yard, first)
    set_run_status(yard, first, "RUNNING")
    assert cancel(yard, job_id).json()["job_status"] == "PROCESSING"
    set_run_status(yard, first, "PENDING")
    yard.work()
    job = yard.job(job_id)
    assert job["job_status"] == "PARTIALLY_COMPLETED"
    assert yard.run_status(first)["status"] == "SUCCEEDED"
    assert {yard.run_status(one)["status"] for one in rest} == {"CANCELLED"}


def test_a_file_between_two_attempts_has_no_next_one(yard: Yard) -> None:
    job_id = yard.submit_zip(MEMBERS)
    first, *_ = expand(yard, job_id)
    start(yard, first)
    set_run_status(yard, first, "RETRYING")
    assert cancel(yard, job_id).json()["job_status"] == "FAILED"
    assert {item["status"] for item in yard.files(job_id).values()} == {"FAILURE"}


def test_an_archive_that_is_being_read_starts_no_file(yard: Yard) -> None:
    job_id = yard.submit_zip(MEMBERS)
    answers = []

    def cancel_meanwhile(current: int, total: int) -> None:
        del current, total
        answers.append(cancel(yard, job_id))

    worker, settings = yard.worker, LintSettings()
    known = KnownLints(BlockingCache(worker.cache, yard.runner.run), settings)
    expander = ArchiveExpander(
        worker.databases, worker.storage.sync, settings, known, cancel_meanwhile
    )
    expansion = expander.expand(job_id)
    assert [answer.status_code for answer in answers] == [202]
    assert (expansion.task_ids, expansion.known, expansion.status) == ((), {}, "FAILED")
    job = yard.job(job_id)
    assert (job["job_status"], job["sub_tasks"]["total"]) == ("FAILED", 0)


def test_a_run_that_starts_all_the_same_lints_nothing(yard: Yard) -> None:
    job_id = yard.submit(sql_content="SELECT 1\n")
    run_id = yard.rows(job_id)[0].run_id or ""
    assert cancel(yard, job_id).json()["job_status"] == "FAILED"
    set_run_status(yard, run_id, "PENDING")
    yard.deliver(run_id)
    run = yard.run_status(run_id)
    assert (run["status"], run["error"]["type"]) == ("FAILED", "LintFailed")
    assert not list((yard.storage / "jobs" / job_id).rglob("results/*"))


@pytest.mark.parametrize("again", [False, True], ids=["after its end", "twice"])
def test_a_job_that_has_ended_cannot_be_cancelled(yard: Yard, again: bool) -> None:
    job_id = yard.submit(sql_content="SELECT 1\n")
    if again:
        cancel(yard, job_id)
    else:
        yard.work()
    answer = cancel(yard, job_id)
    assert (answer.status_code, answer.json()["code"]) == (409, "JOB_HAS_ENDED")


def test_only_who_sees_a_job_and_may_manage_cancels_it(yard: Yard) -> None:
    job_id = yard.submit("admin", sql_content="SELECT 1\n")
    assert cancel(yard, job_id, "operator").status_code == 404
    assert cancel(yard, job_id, "viewer").status_code == 403
    assert cancel(yard, "job-unknown").status_code == 404
    assert cancel(yard, job_id, "admin").status_code == 202


def start(yard: Yard, task_id: str) -> None:
    with yard.worker.databases.sync_transaction("mysql_lint") as session:
        file_rows.start_file(session.connection(), task_id)


def set_run_status(yard: Yard, run_id: str, status: str) -> None:
    change = update(TaskRun).where(TaskRun.id == run_id)
    with yard.worker.databases.sync_begin("postgres_main") as connection:
        connection.execute(change.values(status=status, cancel_requested_at=None))
