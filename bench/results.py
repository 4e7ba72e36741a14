"""What a question brought, kept on disk: lines of JSON for every run, and the last run of each."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.rounds import Sample

FOLDER: Final = Path(".bench")
_LINES: Final = "results.jsonl"


@dataclass(frozen=True)
class Result:
    """One run of one question."""

    question: str
    at: str
    machine: str
    rounds: int
    scale: float
    samples: Sequence[Sample]
    remarks: Sequence[str]


def result_of(
    question: str,
    rounds: int,
    scale: float,
    samples: Sequence[Sample],
    remarks: Sequence[str],
) -> Result:
    """Return the result with the moment and the machine of now."""
    now = time.strftime("%Y-%m-%d", time.gmtime())
    return Result(question, now, machine(), rounds, scale, samples, remarks)


def machine() -> str:
    """Return what the figures depend on, without the name of the machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (
        f"{os.cpu_count()} cores, {pages / 2**30:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def keep(result: Result, folder: Path = FOLDER) -> None:
    """Append the samples, one JSON document per line, and remember the run as the last one."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"at": result.at, "machine": result.machine, "scale": result.scale}
    with (folder / _LINES).open("a") as file:
        for sample in result.samples:
            file.write(json.dumps(about | asdict(sample)) + "\n")
    (folder / f"{result.question}.json").write_text(json.dumps(asdict(result)))


def last(question: str, folder: Path = FOLDER) -> Result | None:
    """Return the last run of the question, None when it was never asked."""
    path = folder / f"{question}.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    content["samples"] = [Sample(**sample) for sample in content["samples"]]
    return Result(**content)
