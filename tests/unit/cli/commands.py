"""Calling the command line inside the test's process."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.cli import main


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What standard output holds, as JSON."""
        return json.loads(self.out)


class Typed(io.StringIO):
    """What somebody types on a terminal."""

    def isatty(self) -> bool:
        return True


RunCommand = Callable[..., Outcome]


def make_runner(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Return a function that calls a command with its arguments."""

    def run_command(*arguments: str) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, printed.out, printed.err)

    return run_command


def run_program(
    *arguments: str, cwd: Path, standard_input: str = "", **environment: str
) -> Outcome:
    """Call a command in a process of its own, for what marks the process it runs in."""
    done = subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", *arguments],
        input=standard_input,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | environment,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
