"""`taskyard doctor` without a service: the embedded form, wrong settings, wrong plugins."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.commands import Outcome, RunCommand


def finding(outcome: Outcome, check: str) -> Any:
    found = [one for one in outcome.document if one["check"] == check]
    assert found, [one["check"] for one in outcome.document]
    return found[0]


def test_an_empty_folder_needs_nothing_but_a_start(taskyard: RunCommand, tmp_path: Path) -> None:
    told = taskyard("doctor", "-o", "json")
    assert told.code == 0, told.out
    assert finding(told, "database postgres_main")["fix"] == "taskyard db upgrade"
    assert finding(told, "storage")["level"] == "warn"
    assert finding(told, "broker")["level"] == "ok"
    assert "3 warnings, 0 failed" in told.err
    # Looking makes nothing.
    assert list(tmp_path.iterdir()) == []


def test_a_migrated_folder_is_well_but_not_served(taskyard: RunCommand, tmp_path: Path) -> None:
    assert taskyard("db", "upgrade").code == 0
    (tmp_path / ".taskyard" / "files").mkdir()
    told = taskyard("doctor", "-o", "json")
    assert told.code == 0, told.out
    levels = {one["check"]: one["level"] for one in told.document}
    assert {check for check, level in levels.items() if level != "ok"} == {"beat"}
    assert finding(told, "beat")["fix"] == "taskyard dev"
    assert "at their newest revision" in finding(told, "migrations")["what"]


def test_pending_revisions_fail(taskyard: RunCommand) -> None:
    assert taskyard("db", "upgrade").code == 0
    assert taskyard("db", "downgrade", "--owner", "lint", "--yes").code == 0
    told = taskyard("doctor", "-o", "json")
    assert told.code == 1
    pending = finding(told, "migrations")
    assert (pending["level"], pending["fix"]) == ("fail", "taskyard db upgrade")
    assert "lint/mysql_lint" in pending["what"]


def test_every_finding_but_a_good_one_says_why_and_how_to_mend_it(taskyard: RunCommand) -> None:
    for one in taskyard("doctor", "-o", "json").document:
        assert set(one) == {"check", "level", "what", "why", "fix", "unavailable"}
        assert one["what"]
        assert one["level"] == "ok" or (one["why"] and one["fix"]), one


def test_the_table_shows_the_cure(taskyard: RunCommand) -> None:
    told = taskyard("doctor", "-o", "table")
    lines = told.out.splitlines()
    assert lines[0].split()[:2] == ["ok", "python"]
    assert any(line.strip() == "fix: taskyard db upgrade" for line in lines)
    assert "\x1b" not in told.out


@pytest.mark.parametrize(
    ("name", "value", "check", "told"),
    [
        ("TASKYARD_CELERY__BROKER_URL", "redis://localhost", "settings", "celery.broker_url"),
        ("TASKYARD_LIMITZ", "1", "settings", "TASKYARD_LIMITS"),
        ("TASKYARD_PLUGINS", '["lnit"]', "plugins", "'lnit' was not found"),
    ],
)
def test_what_stops_every_process_is_a_finding(
    name: str,
    value: str,
    check: str,
    told: str,
    taskyard: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, value)
    outcome = taskyard("doctor", "-o", "json")
    assert outcome.code == 1
    fault = finding(outcome, check)
    assert fault["level"] == "fail"
    assert told in fault["what"] + fault["why"]


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [
        ("TASKYARD_CELERY__PREFETCH_MULTIPLIER", "8", "prefetch"),
        ("TASKYARD_CELERY__DELIVERY_LIMIT", "3", "delivery limit"),
        ("TASKYARD_CELERY__RESULT_BACKEND", "redis://localhost", "result backend"),
        ("TASKYARD_AUTH__ACCESS_TOKEN_SECONDS", "1000000", "token life"),
        ("TASKYARD_AUTH__JWT__SECRET", "a" * 40, "token key"),
        ("TASKYARD_AUTH__JWT__SECRET", "the secret of this very installation", "token key"),
    ],
)
def test_what_is_allowed_and_often_a_mistake_is_a_warning(
    name: str, value: str, check: str, taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    outcome = taskyard("doctor", "-o", "json")
    assert finding(outcome, check)["level"] == "warn"
    assert value not in outcome.out or len(value) < 30


def test_a_good_secret_is_good(taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKYARD_AUTH__JWT__SECRET", "q8Zr2mV5xT1nB7wK4cY9pL3dH6sF0gJ-")
    assert finding(taskyard("doctor", "-o", "json"), "token key")["level"] == "ok"


def test_services_that_do_not_answer_end_with_5(
    taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = "127.0.0.1:9"
    monkeypatch.setenv(
        "TASKYARD_DATABASES__POSTGRES_MAIN__URL", f"postgresql://joe:hunter2@{here}/yard"
    )
    monkeypatch.setenv("TASKYARD_CELERY__BROKER_URL", f"amqp://joe:hunter2@{here}//")
    monkeypatch.setenv("TASKYARD_REDIS__URL", f"redis://:hunter2@{here}/0")
    told = taskyard("doctor", "-o", "json")
    assert told.code == 5
    away = {one["check"] for one in told.document if one["unavailable"]}
    assert away >= {"database postgres_main", "broker", "redis"}
    assert "hunter2" not in told.out + told.err
    key = finding(told, "token key")
    assert (key["level"], key["what"]) == ("fail", "auth.jwt.secret is not set.")
    # The lint database is still SQLite, which other machines would not share.
    assert "mysql_lint" in finding(told, "databases")["what"]
