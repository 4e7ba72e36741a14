"""`taskyard lint` without a service: it is its own, and nothing of it stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("sql", "code", "told"),
    [
        ("SELECT a  FROM b\n", 1, "::warning file=queries/b.sql,line=1,col=9,"),
        ("SELECT a FROM b\n", 0, ""),
    ],
    ids=["faulty", "clean"],
)
def test_a_service_of_its_own_leaves_nothing_behind(
    tmp_path: Path, sql: str, code: int, told: str
) -> None:
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    (work / "queries").mkdir(parents=True)
    temporary.mkdir()
    (work / "queries" / "b.sql").write_text(sql)
    ended = subprocess.run(
        [sys.executable, "-m", "app.cli", "lint", "queries", "-f", "github"],
        env={**os.environ, "TMPDIR": str(temporary)},
        cwd=work,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert ended.stdout.startswith(told)
    assert bool(ended.stdout) == bool(told)
    assert list(temporary.iterdir()) == []
    assert [path.name for path in work.rglob("*")] == ["queries", "b.sql"]
