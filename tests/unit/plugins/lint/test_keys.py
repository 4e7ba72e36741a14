"""Keys hold nothing that a client chose, besides a tame form of a file's name."""

import pytest

from app.plugins.lint.keys import member_key, result_key, shown_name, text_key, upload_key
from app.storage import check_key


def test_the_layout_that_clients_rely_on() -> None:
    assert text_key("job-1") == "jobs/job-1/source/query.sql"
    assert upload_key("job-1", "zip") == "jobs/job-1/source/upload.zip"
    assert member_key("job-1", 7, "reports/a b.sql") == "jobs/job-1/source/00007_a_b.sql"
    assert result_key("job-1", "t") == "jobs/job-1/results/t.json"


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd.sql",
        "C:\\x.sql",
        "a\0.sql",
        "....sql",
        ".sql",
        "x" * 5000 + ".sql",
        "\u202egnp.sql",
        "-rf.sql",
        "con.sql",
        "名前.sql",
    ],
)
def test_every_members_key_is_a_key_in_its_job(name: str) -> None:
    key = check_key(member_key("job-1", 1, name))
    assert key.startswith("jobs/job-1/source/00001_")
    assert key.count("/") == 3
    assert key.isascii()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../x.zip", "x.zip"),
        ("C:\\temp\\x.zip", "x.zip"),
        ("a\0\x1b[31m.zip", "a\ufffd\ufffd[31m.zip"),
        ("\u202egpj.zip", "\ufffdgpj.zip"),
        ("", "upload"),
        ("x" * 5000, "x" * 255),
        ("<script>.sql", "<script>.sql"),
    ],
)
def test_a_shown_name_cannot_act_on_a_terminal(name: str, shown: str) -> None:
    assert shown_name(name) == shown
