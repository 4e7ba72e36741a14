"""`taskyard lint`: what it sends, what it prints, and how it ends."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.cli import lint_sources
from app.cli.failures import CommandError
from app.cli.lint_sources import read_source
from tests.unit.cli.commands import Outcome, RunCommand
from tests.unit.cli.fake_service import Answer, FakeService

JOB = "job-1"
SPACING = {
    "start_line_no": 3,
    "start_line_pos": 9,
    "code": "LT01",
    "name": "layout.spacing",
    "description": "Expected \x1b[31monly single whitespace.",
    "warning": False,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.sql", "a/c.SQL", "a/notes.txt", ".git/d.sql", "a/.cache/e.sql", ".f.sql"):
        path = tmp_path / "queries" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"SELECT '{name}'\n")
    (tmp_path / "queries" / "link.sql").symlink_to(tmp_path / "queries" / "b.sql")
    return tmp_path / "queries"


def members(data: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_a_folder_is_sent_without_what_is_hidden(folder: Path) -> None:
    source = read_source(Path("queries"))
    assert source.name.endswith(".zip")
    assert members(source.data) == {
        "queries/b.sql": "SELECT 'b.sql'\n",
        "queries/a/c.SQL": "SELECT 'a/c.SQL'\n",
    }
    for left_out in ("4", ".git", ".cache", ".f.sql", "link.sql"):
        assert left_out in source.left_out
    assert read_source(folder) == source


def test_a_folder_elsewhere_has_paths_of_its_own(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert set(members(read_source(folder).data)) == {"b.sql", "a/c.SQL"}


def test_a_file_keeps_its_folders(folder: Path) -> None:
    source = read_source(Path("queries/b.sql"))
    assert members(source.data) == {"queries/b.sql": "SELECT 'b.sql'\n"}
    large = folder / "large.sql"
    large.write_text("SELECT 1\n" * 40_000)
    assert (read_source(large).name, read_source(large).data) == ("large.sql", large.read_bytes())
    near = Path("near.sql")
    near.write_text("SELECT 1\n")
    assert (read_source(near).name, read_source(near).data) == ("near.sql", b"SELECT 1\n")


@pytest.mark.parametrize("wrong", ["missing.sql", "queries/a/notes.txt", "queries/.git/hooks"])
def test_what_cannot_be_linted_is_a_usage_error(folder: Path, wrong: str) -> None:
    (folder / ".git" / "hooks").mkdir()
    with pytest.raises(CommandError) as caught:
        read_source(Path(wrong))
    assert caught.value.failure.exit_code == 2


def test_too_much_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint_sources, "MAX_FILES", 1)
    with pytest.raises(CommandError, match="more than 1 files"):
        read_source(folder)


def answer_job(
    service: FakeService,
    *,
    violations: list[dict[str, Any]],
    levels: dict[str, int] | None = None,
    passed: bool = False,
    file: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
    **job: Any,
) -> None:
    severities = [level for level, count in (levels or {}).items() for _ in range(count)]
    told_file = {
        "task_id": "t",
        "file_name": "queries/b.sql",
        "status": "SUCCESS",
        "outcome": "linted",
        "error_message": None,
        "violations": violations,
        "severities": severities or ["warning"] * len(violations),
    }
    found = {"error": 0, "warning": 0, "note": 0} | (levels or {})
    figures = {"files": 1, "failed": 0, "violations": len(violations), "passed": passed}
    told_job = {
        "job_id": JOB,
        "job_status": "COMPLETED",
        "error_message": None,
        "fail_on": "warning",
    }
    document = {
        "job": told_job | job,
        "files": [told_file | (file or {})],
        "summary": {**figures, "by_level": found, **(summary or {})},
    }
    going = {"job_status": "PROCESSING", "figures": {"files": 1, "ended": 0}}
    ended = {"job_status": "COMPLETED", "figures": {"files": 1, "ended": 1}}
    service.answer("POST", "/jobs/upload", Answer({"job_id": JOB}, status=202))
    service.answer("GET", f"/jobs/{JOB}", Answer(going), Answer(ended))
    service.answer("GET", f"/jobs/{JOB}/report", Answer(document))


def lint(taskyard: RunCommand, *more: str) -> Outcome:
    return taskyard("lint", "queries", *more)


@pytest.mark.usefixtures("folder")
def test_the_table_names_files_places_and_rules(taskyard: RunCommand, service: FakeService) -> None:
    answer_job(service, violations=[SPACING], levels={"warning": 1})
    ended = lint(taskyard, "--dialect", "tsql")
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[0] == "queries/b.sql"
    assert lines[1].split(maxsplit=3)[:3] == ["3:9", "W", "LT01"]
    assert "\x1b" not in ended.out
    assert lines[-1] == "1 file, 1 violation, 0 failed"
    assert "LINT_NOT_PASSED" in ended.err
    assert "1 warning." in ended.err
    assert "0 of 1 files" in ended.err
    assert "1 of 1 files" in ended.err
    assert f"job {JOB}" in ended.err
    upload = service.received[0]
    assert upload.path == "/api/v1/jobs/upload"
    assert b'name="dialect"\r\n\r\ntsql' in upload.body
    assert b'name="fail_on"' not in upload.body


@pytest.mark.usefixtures("folder")
def test_severities_and_the_most_frequent_rules_are_told(
    taskyard: RunCommand, service: FakeService
) -> None:
    violations = [SPACING, {**SPACING, "code": "PRS"}, SPACING]
    answer_job(service, violations=violations, levels={"warning": 1, "error": 1, "note": 1})
    lines = lint(taskyard).out.splitlines()
    assert [line.split()[1] for line in lines[1:4]] == ["W", "E", "N"]
    assert "rules: LT01 2, PRS 1" in lines


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("passed", "fail_on", "code"), [(True, "note", 0), (False, "error", 1), (False, "never", 0)]
)
def test_the_exit_code_is_what_the_service_says(
    taskyard: RunCommand, service: FakeService, *, passed: bool, fail_on: str, code: int
) -> None:
    answer_job(service, violations=[SPACING], levels={"error": 1}, passed=passed, fail_on=fail_on)
    assert lint(taskyard, "--fail-on", fail_on).code == code
    assert f'name="fail_on"\r\n\r\n{fail_on}'.encode() in service.received[0].body


@pytest.mark.usefixtures("folder")
def test_of_a_job_with_a_baseline_only_what_is_new_is_shown(
    taskyard: RunCommand, service: FakeService
) -> None:
    violations = [SPACING, {**SPACING, "start_line_no": 7}]
    changes = {"new": 1, "fixed": 4, "unchanged": 1}
    answer_job(
        service,
        violations=violations,
        levels={"warning": 2},
        file={"is_new": [False, True], "new": 1},
        summary=changes,
    )
    ended = lint(taskyard, "--profile", "shop", "--baseline", "job-0")
    assert ended.code == 1
    assert "7:9" in ended.out
    assert "3:9" not in ended.out
    assert ended.out.splitlines()[-1].endswith("1 new, 4 fixed, 1 unchanged")
    assert "1 new." in ended.err
    body = service.received[0].body
    assert b'name="profile"\r\n\r\nshop' in body
    assert b'name="baseline_job_id"\r\n\r\njob-0' in body


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_was_lost_before_is_not_shown_again(
    taskyard: RunCommand, service: FakeService, *, known: bool
) -> None:
    lost = {"status": "FAILURE", "outcome": "timeout", "error_message": "It took too long."}
    changes = {"new": int(not known), "fixed": 0, "unchanged": int(known)}
    answer_job(
        service,
        violations=[],
        passed=known,
        file={**lost, "is_new": [], "new": int(not known)},
        summary=changes,
    )
    ended = lint(taskyard, "--baseline", "job-0")
    assert ("It took too long." in ended.out) is not known
    assert ended.code == int(not known)


@pytest.mark.usefixtures("folder")
def test_an_archive_that_was_not_read_does_not_pass(
    taskyard: RunCommand, service: FakeService
) -> None:
    answer_job(service, violations=[], error_message="The archive is broken.")
    ended = lint(taskyard)
    assert ended.code == 1
    assert "The archive is broken." in ended.out
    assert "The archive is broken." in ended.err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("form", ["json", "sarif", "github"])
def test_the_other_forms_are_the_services_own(
    taskyard: RunCommand, service: FakeService, form: str
) -> None:
    answer_job(service, violations=[SPACING], passed=True)
    ended = lint(taskyard, "--format", form)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["files"][0]["violations"] == [SPACING]
    assert "\x1b" not in ended.out
    asked = [one.query for one in service.received if one.path.endswith("/report")]
    assert asked[-1] == [("format", form)]
