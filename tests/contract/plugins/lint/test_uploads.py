"""Uploads over HTTP."""

import pytest

from tests.contract.plugins.lint.yard import Yard, packed

SQL = b"select a,b from c\n"


def test_an_sql_file_and_an_archive_are_linted(yard: Yard) -> None:
    single = yard.upload("query.sql", SQL, dialect="mysql", rules="LT01, LT09")
    archive = yard.upload("many.zip", packed({"a.sql": SQL, "b.sql": SQL}), mime="application/zip")
    assert (single.status_code, archive.status_code) == (202, 202)
    assert single.headers["Location"] == f"/api/v1/jobs/{single.json()['job_id']}"
    yard.work()
    job = yard.job(single.json()["job_id"])
    assert (job["job_status"], job["submission_type"]) == ("COMPLETED", "SINGLE_FILE")
    (item,) = job["sub_tasks"]["items"]
    assert item["file_name"] == "query.sql"
    document = yard.call("GET", f"/api/v1/tasks/{item['task_id']}/result").json()
    assert document["profile"]["rules"] == ["LT01", "LT09"]
    job = yard.job(archive.json()["job_id"])
    assert (job["job_status"], job["submission_type"]) == ("COMPLETED", "ZIP_ARCHIVE")
    assert job["source_path"] == f"jobs/{job['job_id']}/source/upload.zip"
    assert (yard.storage / job["source_path"]).read_bytes()[:4] == b"PK\x03\x04"


@pytest.mark.parametrize("name", ["../../x.sql", "C:\\x.sql", "x\u202e.sql", "y" * 3000 + ".sql"])
def test_a_hostile_name_is_only_shown(yard: Yard, name: str) -> None:
    answer = yard.upload(name, SQL)
    assert answer.status_code == 202, answer.text
    job = yard.job(answer.json()["job_id"])
    assert job["source_path"] == f"jobs/{job['job_id']}/source/upload.sql"
    (item,) = job["sub_tasks"]["items"]
    assert "/" not in item["file_name"]
    assert "\\" not in item["file_name"]
    assert item["file_name"].isprintable()
    assert len(item["file_name"]) <= 255


@pytest.mark.parametrize(
    ("name", "data", "mime", "status", "code"),
    [
        ("a.sql", b"", "text/plain", 422, "UPLOAD_EMPTY"),
        ("a.zip", b"", "application/zip", 422, "UPLOAD_EMPTY"),
        ("a.zip", b"GIF89a", "application/zip", 415, "UPLOAD_TYPE_MISMATCH"),
        ("a.sql", packed({"a.sql": SQL}), "text/plain", 415, "UPLOAD_TYPE_MISMATCH"),
        ("a.zip", packed({}), "application/x-msdownload", 415, "UPLOAD_TYPE_MISMATCH"),
        ("a.zip.exe", packed({}), "application/zip", 415, "UPLOAD_TYPE_MISMATCH"),
        ("a.txt", SQL, "text/plain", 415, "UPLOAD_TYPE_MISMATCH"),
        ("a.sql", b"x" * (2**20 + 1), "text/plain", 413, "SQL_TOO_LARGE"),
    ],
)
def test_what_is_not_accepted(
    yard: Yard, name: str, data: bytes, mime: str, status: int, code: str
) -> None:
    folders = set((yard.storage / "jobs").glob("*"))
    answer = yard.upload(name, data, mime=mime)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set((yard.storage / "jobs").glob("*")) == folders


def test_no_file_part_is_422(yard: Yard) -> None:
    path = "/api/v1/jobs/upload"
    assert yard.call("POST", path, data={"dialect": "x"}, files={"other": b"x"}).status_code == 422
    assert yard.call("POST", path, json={"file": "x"}).status_code == 415


def test_a_wrong_dialect_beside_the_file_is_422(yard: Yard) -> None:
    answer = yard.upload("a.sql", SQL, dialect="nope")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "dialect"]
