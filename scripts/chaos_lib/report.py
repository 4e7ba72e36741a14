"""The table of the guarantees: printed, and written between two marks of the guide."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GUIDE: Final = Path(__file__).parents[2] / "docs" / "guides" / "guarantees.md"
_BEGIN: Final = "<!-- chaos: written by `make chaos` -->"
_END: Final = "<!-- chaos: end -->"
_HEAD: Final = ("| row | run | bar | measured | met | how |", "|---|---|---|---|---|---|")


@dataclass(frozen=True)
class Row:
    """One line of the table; `name` says what was run."""

    name: str
    bar: str
    measured: str
    met: bool


def write(key: str, row: Row, *, seed: int, date: str, guide: Path = GUIDE) -> str:
    """Put a row into the guide's table and return the table; the other rows stay as they are.

    `key` is what the row is asked for by (`scripts/chaos --only`).
    """
    text = guide.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    old, _, after = rest.partition(_END)
    how = f"seed {seed}, {date}, {machine()}"
    lines = {line.split(" | ")[0]: line for line in old.splitlines() if line.startswith("| ")}
    lines.pop(_HEAD[0].split(" | ")[0], None)
    met = "yes" if row.met else "**no**"
    first = f"| `{key}`"
    lines[first] = f"{first} | {row.name} | {row.bar} | {row.measured} | {met} | {how} |"
    table = "\n".join([*_HEAD, *lines.values()])
    guide.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{after}", encoding="utf-8")
    return table


def machine() -> str:
    """Return the size of the machine in words."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {gigabytes:.0f} GB, {platform.system()}"
