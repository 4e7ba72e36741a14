import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.common import failpoints
from app.common.errors import ConfigurationError
from app.common.failpoints import EXIT_CODE, NAMES, VARIABLE, FailpointError, read

ROOT = Path(__file__).parents[3]


def points(text: str) -> failpoints.Failpoints:
    opened = read({VARIABLE: text})
    assert opened is not None
    return opened


@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}, {VARIABLE: " "}])
def test_nothing_is_set_without_the_variable(environ: dict[str, str]) -> None:
    assert read(environ) is None
    failpoints.hit("outcome.before_commit")


def test_a_point_raises_at_each_passage() -> None:
    opened = points("outcome.before_commit=raise")
    for _ in range(2):
        with pytest.raises(FailpointError, match=r"outcome\.before_commit"):
            opened.hit("outcome.before_commit")
    opened.hit("outcome.after_commit")


def test_the_nth_passage_alone_raises() -> None:
    opened = points("outcome.before_commit=raise:2, outcome.after_commit=raise:1")
    opened.hit("outcome.before_commit")
    with pytest.raises(FailpointError):
        opened.hit("outcome.before_commit")
    opened.hit("outcome.before_commit")
    with pytest.raises(FailpointError):
        opened.hit("outcome.after_commit")


def test_a_point_waits() -> None:
    opened = points("execution.after_claim=sleep(0.05)")
    before = time.monotonic()
    opened.hit("execution.after_claim")
    assert time.monotonic() - before >= 0.05


def test_a_point_ends_the_process_at_once() -> None:
    program = (
        "from app.common.failpoints import hit\n"
        "try:\n"
        "    hit('storage.after_rename')\n"
        "    print('once', flush=True)\n"
        "    hit('storage.after_rename')\n"
        "finally:\n"
        "    print('never')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, VARIABLE: "storage.after_rename=exit:2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == EXIT_CODE, ended.stderr
    assert ended.stdout == "once\n"


@pytest.mark.parametrize(
    "text",
    [
        "outcome.before_comit=exit",
        "outcome.before_commit",
        "outcome.before_commit=die",
        "outcome.before_commit=exit:0",
        "outcome.before_commit=sleep",
        "outcome.before_commit=exit,",
    ],
)
def test_a_typo_stops_the_start(text: str) -> None:
    with pytest.raises(ConfigurationError, match=VARIABLE):
        read({VARIABLE: text})


def test_every_name_is_a_place_in_the_code() -> None:
    placed = {
        name
        for path in (ROOT / "app").rglob("*.py")
        if path.name != "failpoints.py"
        for name in re.findall(r"failpoints\.hit\(\"([^\"]+)\"\)", path.read_text())
    }
    assert placed == NAMES
