"""The measured parts of docs/guides/performance.md, which stand between markers."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.results import Result
from bench.rounds import Verdict, values
from bench.statistics import spread
from bench.table import short, title_of

GUIDE: Final = Path("docs/guides/performance.md")
CHART: Final = Path("docs/guides/performance.svg")


def put(text: str, question: str, section: str) -> str:
    """Return the guide with another section between the question's markers; ValueError without."""
    begin, end = f"<!-- bench: {question} -->", f"<!-- /bench: {question} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the guide has no markers of '{question}'")
    return pattern.sub(lambda _: f"{begin}\n\n{section}\n\n{end}", text)


def section_of(result: Result, verdicts: Sequence[Verdict]) -> str:
    """Return the tables of one question as Markdown."""
    lines = []
    if verdicts:
        lines += [
            "| ratio or figure | least | median | most | bar | met |",
            "|---|--:|--:|--:|---|---|",
            *map(_verdict_row, verdicts),
            "",
        ]
    lines += ["| measured | side | least | median | most | |", "|---|---|--:|--:|--:|---|"]
    keys = dict.fromkeys((one.metric, one.side, one.unit) for one in result.samples)
    for metric, side, unit in keys:
        found = spread(values(result.samples, metric, side))
        figures = " | ".join(map(short, (found.least, found.median, found.most)))
        lines.append(f"| {metric} | {side} | {figures} | {unit} |")
    lines += ["", f"{_run_of(result)}{''.join(map(_told, result.remarks))}"]
    return "\n".join(lines)


def _run_of(result: Result) -> str:
    of_scale = "" if result.scale == 1 else f", a scale of {result.scale:g}"
    rounds = f"{result.rounds} rounds" if result.rounds > 1 else "1 round"
    return f"{result.at}, {rounds}{of_scale}; {result.machine}."


def _told(remark: str) -> str:
    """Return the first line of a remark as a sentence; what follows it is somebody's log."""
    line = remark.split("\n", 1)[0]
    return f" {line[0].upper()}{line[1:]}."


def _verdict_row(verdict: Verdict) -> str:
    bar, found = verdict.bar, verdict.spread
    aim = "" if bar.aim is None else f", aim {bar.aim:g}"
    told = f"{bar.sense} {bar.bar:g}{aim}"
    if found is None:
        return f"| {title_of(verdict)} | | not measured | | {told} | |"
    figures = " | ".join(map(short, (found.least, found.median, found.most)))
    return f"| {title_of(verdict)} | {figures} | {told} | {'yes' if verdict.is_met else '**no**'} |"
