"""Jobs of ZIP archives: every file with its row, bad members reported, status derived."""

import stat
import struct
import zipfile
from io import BytesIO

import pytest

from app.plugins.lint.settings import LintSettings
from tests.contract.plugins.lint.yard import Yard, packed

GOOD = b"SELECT a FROM b\n"
UGLY = b"select a,b from c\n"
BROKEN = b"SELECT (a FROM b\n"


def test_every_sql_file_has_its_row_and_result(yard: Yard) -> None:
    members = {
        "a.sql": GOOD,
        "reports/b.SQL": UGLY,
        "README.md": b"# read me",
        "reports/empty.sql": b"",
    }
    job_id = yard.submit_zip(members, dialect="ansi")
    assert yard.job(job_id)["sub_tasks"]["total"] == 0
    yard.work()
    job = yard.job(job_id)
    assert job["job_status"] == "COMPLETED"
    assert job["submission_type"] == "ZIP_ARCHIVE"
    assert job["source_path"].startswith("archives/")
    files = yard.files(job_id)
    assert list(files) == ["a.sql", "reports/b.SQL", "reports/empty.sql"]
    for item in files.values():
        assert item["status"] == "SUCCESS"
        assert (yard.storage / item["result_file_path"]).is_file()
        run = yard.run_status(item["task_id"])
        assert (run["status"], run["queue"]) == ("SUCCEEDED", "lint_batch")
    assert files["reports/b.SQL"]["violation_count"] == 2
    sources = sorted(path.name for path in (yard.storage / f"jobs/{job_id}/source").iterdir())
    assert sources == ["00001_a.sql", "00002_b.sql", "00003_empty.sql"]
    assert sorted(p.name for p in (yard.storage / f"jobs/{job_id}").iterdir()) == [
        "results",
        "source",
    ]


def test_the_expansion_tells_what_it_found(yard: Yard) -> None:
    job_id = yard.submit_zip({"a.sql": GOOD, "../evil.sql": GOOD, "x.txt": b"x"})
    yard.work()
    job, _ = yard.rows(job_id)
    run = yard.run_status(str(job.run_id))
    assert run["result"] == {
        "job_id": job_id,
        "status": "PROCESSING",
        "files": 1,
        "rejected": 1,
        "ignored": 1,
    }


def test_pages_hold_their_part_of_the_files(yard: Yard) -> None:
    job_id = yard.submit_zip({f"{n:02d}.sql": GOOD for n in range(12)})
    yard.work()
    first = yard.job(job_id)["sub_tasks"]
    assert (first["total"], first["page"], first["size"]) == (12, 1, 10)
    assert [item["file_name"] for item in first["items"]] == [f"{n:02d}.sql" for n in range(10)]
    second = yard.job(job_id, page=2)["sub_tasks"]
    assert [item["file_name"] for item in second["items"]] == ["10.sql", "11.sql"]
    assert yard.job(job_id, page=3)["sub_tasks"]["items"] == []


def test_a_job_with_good_and_bad_files_is_partially_completed(yard: Yard) -> None:
    members = {
        "good.sql": GOOD,
        "broken.sql": BROKEN,
        "image.sql": b"\x89PNG\r\n\x1a\n\0\0",
        "latin.sql": "SELECT 'é'\n".encode("latin-1"),
        "huge.sql": b"x" * (LintSettings().max_member_bytes + 1),
    }
    job_id = yard.submit_zip(members)
    yard.work()
    assert yard.job(job_id)["job_status"] == "PARTIALLY_COMPLETED"
    files = yard.files(job_id)
    statuses = {name: item["status"] for name, item in files.items()}
    assert statuses == {
        "good.sql": "SUCCESS",
        "latin.sql": "SUCCESS",
        "broken.sql": "FAILURE",
        "image.sql": "FAILURE",
        "huge.sql": "FAILURE",
    }
    assert "Syntax error on line 1" in files["broken.sql"]["error_message"]
    assert "binary" in files["image.sql"]["error_message"]
    assert "at most" in files["huge.sql"]["error_message"]


def test_bad_members_are_reported_and_good_ones_linted(yard: Yard) -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("good.sql", GOOD)
        archive.writestr("../../outside.sql", GOOD)
        archive.writestr("/absolute.sql", GOOD)
        link = zipfile.ZipInfo("link.sql")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("esc\x1b[31m.sql", GOOD)
    (yard.storage / "archives").mkdir(parents=True, exist_ok=True)
    (yard.storage / "archives/bad.zip").write_bytes(buffer.getvalue())
    job_id = yard.submit(zip_file_path="archives/bad.zip")
    yard.work()
    job, rows = yard.rows(job_id)
    assert job.status == "PARTIALLY_COMPLETED"
    good = [row for row in rows if row.status == "SUCCESS"]
    assert [row.file_name for row in good] == ["good.sql"]
    bad = [row for row in rows if row.outcome == "rejected"]
    assert len(bad) == 4
    assert all(row.error_message and (row.file_name or "").isprintable() for row in bad)
    assert not list(yard.storage.parent.rglob("outside.sql"))
    assert len(list((yard.storage / f"jobs/{job_id}/source").iterdir())) == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"this is no archive", ""),
        (packed({"a.sql": GOOD})[:-30], ""),
        (packed({"a.txt": GOOD, "b.md": GOOD}), "no .sql file"),
        (packed({}), "no .sql file"),
        (packed({"../a.sql": GOOD}), "no usable file"),
    ],
)
def test_a_broken_or_empty_archive_ends_its_job_with_a_reason(
    yard: Yard, data: bytes, words: str
) -> None:
    (yard.storage / "archives").mkdir(parents=True, exist_ok=True)
    (yard.storage / "archives/broken.zip").write_bytes(data)
    job_id = yard.submit(zip_file_path="archives/broken.zip")
    yard.work()
    job = yard.job(job_id)
    assert job["job_status"] == "FAILED"
    assert len(job["error_message"]) > 20
    assert words in job["error_message"]
    run_id = str(yard.rows(job_id)[0].run_id)
    assert yard.run_status(run_id)["status"] == "SUCCEEDED"


def test_an_archive_that_disappeared_ends_its_job(yard: Yard) -> None:
    (yard.storage / "archives").mkdir(parents=True, exist_ok=True)
    (yard.storage / "archives/gone.zip").write_bytes(packed({"a.sql": GOOD}))
    job_id = yard.submit(zip_file_path="archives/gone.zip")
    (yard.storage / "archives/gone.zip").unlink()
    yard.work()
    assert yard.job(job_id)["job_status"] == "FAILED"
    assert "archives/gone.zip" in yard.job(job_id)["error_message"]


def test_a_lying_bomb_does_not_cost_the_others(yard: Yard) -> None:
    data = bytearray(packed({"a.sql": GOOD, "bomb.sql": b"a" * 4_000_000}))
    # The second member says that it is small, in both of its headers.
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        second = data.index(signature, data.index(signature) + 4)
        data[second + offset : second + offset + 4] = struct.pack("<I", 100)
    (yard.storage / "archives").mkdir(parents=True, exist_ok=True)
    (yard.storage / "archives/bomb.zip").write_bytes(bytes(data))
    job_id = yard.submit(zip_file_path="archives/bomb.zip")
    yard.work()
    files = yard.files(job_id)
    assert files["a.sql"]["status"] == "SUCCESS"
    assert files["bomb.sql"]["status"] == "FAILURE"
    assert yard.job(job_id)["job_status"] == "PARTIALLY_COMPLETED"


def test_one_poisoned_file_costs_itself(yard: Yard) -> None:
    joins = "".join(f"JOIN t{n} ON t.x = t{n}.x\n" for n in range(1500)).encode()
    job_id = yard.submit_zip({"poison.sql": b"SELECT * FROM t\n" + joins, "good.sql": GOOD})
    yard.work()
    files = yard.files(job_id)
    assert files["good.sql"]["status"] == "SUCCESS"
    assert "did not end within" in files["poison.sql"]["error_message"]
    assert yard.job(job_id)["job_status"] == "PARTIALLY_COMPLETED"


def test_a_second_delivery_of_the_expansion_keeps_ids_and_rows(yard: Yard) -> None:
    job_id = yard.submit_zip({"a.sql": GOOD, "b.sql": UGLY})
    yard.work(times=2)
    before = yard.files(job_id)
    body = {"task": "lint.expand_zip_and_dispatch_tasks", "params": {"job_id": job_id}}
    again = yard.call("POST", "/api/v1/tasks/run", json=body).json()["task_id"]
    yard.work()
    assert yard.run_status(again)["result"]["files"] == 2
    assert yard.files(job_id) == before
    assert yard.job(job_id)["job_status"] == "COMPLETED"


def test_directives_of_a_config_file_beside_the_sql_mean_nothing(yard: Yard) -> None:
    members = {
        ".sqlfluff": b"[sqlfluff]\nlibrary_path = lib\nexclude_rules = all\n",
        "lib/x.py": b"open('PWNED', 'w')",
        "a.sql": UGLY,
    }
    job_id = yard.submit_zip(members)
    yard.work()
    files = yard.files(job_id)
    assert list(files) == ["a.sql"]
    assert files["a.sql"]["violation_count"] == 2
    assert not list(yard.storage.parent.rglob("PWNED"))
