"""Hostile files in one archive: each costs itself at most, and the worker lives."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.common.logging import configure_logging
from app.plugins.lint.settings import LintSettings
from tests.contract.plugins.lint.yard import Yard
from tests.unit.plugins.lint.attacks import ATTACKS, PATHOLOGICAL, set_trap

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FINE = "SELECT 1\n"
MOST_SECONDS = 1.0


@pytest.fixture
def quick_yard(yard: Yard) -> Iterator[Yard]:
    """A yard that gives every file a second and no more."""
    known = yard.worker.plugin_settings["lint"]
    assert isinstance(known, LintSettings)
    quick = {"deadline_base_seconds": MOST_SECONDS, "deadline_max_seconds": MOST_SECONDS}
    yard.worker.plugin_settings["lint"] = known.model_copy(update=quick)
    yield yard
    yard.worker.plugin_settings["lint"] = known


def test_an_archive_full_of_attacks_costs_nothing_else(quick_yard: Yard, tmp_path: Path) -> None:
    yard, trap = quick_yard, set_trap(tmp_path)
    hostile = {name: text.format(trap=trap) + FINE for name, text in ATTACKS.items()}
    hostile |= PATHOLOGICAL
    members = {f"{name}.sql": text.encode() for name, text in hostile.items()}
    good = {f"good {number}.sql": f"SELECT {number}\n".encode() for number in range(5)}
    binary = {
        "nul.sql": b"SELECT \0" * 1000,
        "utf-16.sql": "SELECT 1\n".encode("utf-16"),
        "random.sql": bytes(range(256)) * 100,
        "lib/attack.py": b"open('PWNED', 'w')",
        ".sqlfluff": f"[sqlfluff]\nlibrary_path = {trap}\n".encode(),
    }
    job_id = yard.submit_zip({**members, **binary, **good}, dialect="ansi")
    yard.work()

    assert not (trap.parent / "PWNED").exists()
    assert yard.job(job_id)["job_status"] == "PARTIALLY_COMPLETED"
    _, rows = yard.rows(job_id)
    ended = {str(row.file_name): row for row in rows}
    # Every file has an end of its own, and every good one is linted.
    assert ended.keys() == {*members, *good, "nul.sql", "utf-16.sql", "random.sql"}
    assert {row.status for row in rows} <= {"SUCCESS", "FAILURE"}
    assert {ended[name].outcome for name in good} == {"linted"}
    # Without a template engine, braces are no SQL.
    assert {ended[f"{name}.sql"].outcome for name in ATTACKS} <= {"linted", "unparsable"}
    assert ended["utf-16.sql"].outcome == "linted"
    assert (ended["nul.sql"].outcome, ended["random.sql"].outcome) == ("binary", "binary")
    reasons = {"linted", "unparsable", "timeout", "memory", "crashed"}
    assert {ended[f"{name}.sql"].outcome for name in PATHOLOGICAL} <= reasons
    assert all(row.error_message for row in rows if row.status == "FAILURE")
    results = "".join(path.read_text() for path in yard.storage.rglob(f"{job_id}/results/*.json"))
    assert "the-secret-of-the-host" not in results
    # The next lint is fine.
    again = yard.submit(sql_content=FINE, dialect="ansi")
    yard.work()
    assert yard.job(again)["job_status"] == "COMPLETED"


def test_no_log_line_holds_sql(quick_yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    yard = quick_yard

    mark = "salary_of_the_boss"
    configure_logging("DEBUG", "json")
    try:
        members = {
            "good.sql": f"select {mark},b from c\n",
            "broken.sql": f"SELECT ({mark} FROM b\n",
            "part.sql": f"SELECT 1;\nSELEC {mark} FRO\n",
            "slow.sql": f"SELECT {mark} FROM t\n" + PATHOLOGICAL["many joins"],
            "panic.sql": f"SELECT {mark} WHERE " + " AND ".join([f"{mark} = 1"] * 10_000),
            "directive.sql": f"-- sqlfluff:rules:{mark}\nSELECT 1\n",
            "nul.sql": f"SELECT {mark}\0",
        }
        job_id = yard.submit_zip({name: text.encode() for name, text in members.items()})
        yard.work()
        for text in members.values():
            params = {"sql": text, "dialect": "ansi"}
            yard.call("POST", "/api/v1/tasks/run", json={"task": "lint.sql", "params": params})
        yard.work()
    finally:
        configure_logging("CRITICAL", "json")
    printed = "".join(capfd.readouterr())
    assert "attempt ended" in printed
    assert len(yard.rows(job_id)[1]) == len(members)
    assert mark not in printed
