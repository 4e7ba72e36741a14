"""The table of the guarantees: printed, and written between two marks of the guide."""

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = ROOT / "docs" / "guides" / "guarantees.md"
_BEGIN: Final = "<!-- chaos: written by `make chaos` -->"
_END: Final = "<!-- chaos: end -->"
_HEAD: Final = ("| row | run | bar | measured | met | how |", "|---|---|---|---|---|---|")


@dataclass(frozen=True)
class Row:
    """One line of the table; `name` says what was run.

    Without a name it tells of a run that broke off: name and bar of the table stay.
    """

    name: str
    bar: str
    measured: str
    met: bool

    @classmethod
    def of_failure(cls, error: BaseException) -> "Row":
        """Return the line of a run that ended before it had measured anything."""
        text = " ".join(f"broke off: {type(error).__name__}: {error}".split()).replace("|", "/")
        return cls("", "", text[:300], met=False)


def write(key: str, row: Row, how: str, *, guide: Path = GUIDE) -> str:
    """Put a row into the guide's table and return the table; the other rows stay as they are.

    `key` is what the row is asked for by (`scripts/chaos --only`), `how` tells of the run.
    """
    text = guide.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    old, _, after = rest.partition(_END)
    lines = {line.split(" | ")[0]: line for line in old.splitlines() if line.startswith("| ")}
    lines.pop(_HEAD[0].split(" | ")[0], None)
    met = "yes" if row.met else "**no**"
    first = f"| `{key}`"
    name, bar = _names(row, lines.get(first))
    lines[first] = f"{first} | {name} | {bar} | {row.measured} | {met} | {how} |"
    table = "\n".join([*_HEAD, *lines.values()])
    guide.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{after}", encoding="utf-8")
    return table


def _names(row: Row, earlier: str | None) -> tuple[str, str]:
    if row.name or earlier is None:
        return row.name, row.bar
    cells = earlier.split(" | ")
    return cells[1], cells[2]


def how(seed: int, code: str, seconds: float) -> str:
    """Return in words what a row was measured with."""
    return f"seed {seed}, {code}, {seconds:.0f} s, {machine()}"


def commit(folder: Path = ROOT, environ: Mapping[str, str] | None = None) -> str:
    """Return the commit of the code and its date; a tree that differs from it says so."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=environ
        ).stdout.strip()

    try:
        code = git("log", "-1", "--format=%h of %cs")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "no commit known"
    return f"{code} with changes" if changed else code


def machine() -> str:
    """Return the size of the machine in words."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {gigabytes:.0f} GB, {platform.system()}"
