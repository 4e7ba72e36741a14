"""The task `lint.fix_sql`: a text is fixed in the sandbox, or refused."""

from pathlib import Path
from typing import Any

import pytest

from tests.contract.plugins.lint.yard import Yard
from tests.unit.plugins.lint.attacks import ATTACKS, PATHOLOGICAL, set_trap


def _run(yard: Yard, **params: Any) -> dict[str, Any]:
    answer = yard.call("POST", "/api/v1/tasks/run", json={"task": "lint.fix_sql", "params": params})
    assert answer.status_code == 202, answer.text
    yard.work()
    return yard.run_status(answer.json()["task_id"])


def test_a_text_is_fixed_on_a_queue_of_its_own(yard: Yard) -> None:
    run = _run(yard, sql="select a,b from c where d=1", dialect="Postgres", file_name="q.sql")
    assert (run["status"], run["queue"]) == ("SUCCEEDED", "lint_fix")
    result = run["result"]
    assert result["fixed_sql"] == "select\n    a,\n    b\nfrom c\nwhere d = 1\n"
    assert result["diff"].startswith("--- a/q.sql\n+++ b/q.sql\n@@ ")
    assert result["violations_before"] > result["violations_after"] == 0
    assert (result["changed"], result["passed"], result["dialect"]) == (True, True, "postgres")
    again = _run(yard, sql=result["fixed_sql"], dialect="postgres")["result"]
    assert (again["changed"], again["diff"]) == (False, "")


def test_line_ends_mark_and_directives_stay(yard: Yard) -> None:
    sql = "\ufeff-- sqlfluff:exclude_rules:LT09\r\nselect a,b from c\r\n"
    result = _run(yard, sql=sql)["result"]
    assert result["fixed_sql"] == sql.replace("a,b", "a, b")
    assert "sqlfluf-" not in result["diff"]


def test_rules_and_profile_decide_what_is_fixed(yard: Yard) -> None:
    upper = {"rules:capitalisation.keywords:capitalisation_policy": "upper"}
    body = {"name": "upper", "rules": ["CP01"], "options": upper, "templater": "dbt"}
    assert yard.call("POST", "/api/v1/lint/profiles", json=body).status_code == 201
    result = _run(yard, sql="select a,b from c\n", profile="upper")["result"]
    assert result["fixed_sql"] == "SELECT a,b FROM c\n"
    assert result["profile"]["templater"] == "raw"


@pytest.mark.parametrize("sql", ["SELECT (\n", "selec 1\n", "SELECT 1;\nSELEC 2;\n"])
def test_a_text_with_syntax_errors_is_refused(yard: Yard, sql: str) -> None:
    run = _run(yard, sql=sql)
    assert (run["status"], run["attempt"]) == ("FAILED", 1)
    assert run["error"]["type"] == "LintFixRefused"
    assert "Syntax error on line" in run["error"]["message"]
    assert run["dead_letter_id"] is None


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_runs_code_or_reads_a_file(yard: Yard, tmp_path: Path, name: str) -> None:
    trap = set_trap(tmp_path)
    sql = ATTACKS[name].format(trap=trap) + "select a,b from c\n"
    run = _run(yard, sql=sql)
    assert run["status"] in {"SUCCEEDED", "FAILED"}
    assert not (trap.parent / "PWNED").exists()
    assert "the-secret-of-the-host" not in str(run)


def test_a_fix_without_end_is_stopped(yard: Yard) -> None:
    run = _run(yard, sql=PATHOLOGICAL["many joins"][:40_000])
    assert (run["status"], run["error"]["type"]) == ("FAILED", "LintTimeout")
    assert _run(yard, sql="select 1\n")["status"] == "SUCCEEDED"
