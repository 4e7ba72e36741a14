"""The measured parts of docs/guides/performance.md, which stand between markers."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from bench.results import Result
from bench.rounds import Sample, Verdict, values
from bench.statistics import spread
from bench.table import short, title_of

# What a question may have a column for each of: its COLUMNS.
Columns = Literal["sides", "metrics"]
GUIDE: Final = Path("docs/guides/performance.md")
CHART: Final = Path("docs/guides/performance.svg")


def put(text: str, question: str, section: str) -> str:
    """Return the guide with another section between the question's markers; ValueError without."""
    begin, end = f"<!-- bench: {question} -->", f"<!-- /bench: {question} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the guide has no markers of '{question}'")
    return pattern.sub(lambda _: f"{begin}\n\n{section}\n\n{end}", text)


def section_of(result: Result, verdicts: Sequence[Verdict], columns: Columns | None = None) -> str:
    """Return the tables of one question as Markdown.

    With `columns` there is one for each side, or metric, and only the medians are told; all
    figures are in one unit then.
    """
    lines = []
    if verdicts:
        lines += [
            "| ratio or figure | least | median | most | bar | met |",
            "|---|--:|--:|--:|---|---|",
            *map(_verdict_row, verdicts),
            "",
        ]
    if columns and result.samples:
        lines += _medians(result.samples, columns)
    else:
        lines += _spreads(result.samples)
    lines += ["", f"{_run_of(result)}{''.join(map(_told, result.remarks))}"]
    return "\n".join(lines)


def _spreads(samples: Sequence[Sample]) -> list[str]:
    """Return a row for each metric and side."""
    lines = ["| measured | side | least | median | most | |", "|---|---|--:|--:|--:|---|"]
    for metric, side, unit in dict.fromkeys((one.metric, one.side, one.unit) for one in samples):
        found = spread(values(samples, metric, side))
        figures = " | ".join(map(short, (found.least, found.median, found.most)))
        lines.append(f"| {metric} | {side} | {figures} | {unit} |")
    return lines


def _medians(samples: Sequence[Sample], columns: Columns) -> list[str]:
    """Return a row for each metric with a column for each side, or the other way round."""
    (unit,) = {one.unit for one in samples}
    metrics = dict.fromkeys(one.metric for one in samples)
    sides = dict.fromkeys(one.side for one in samples)
    heads, names = (sides, metrics) if columns == "sides" else (metrics, sides)
    lines = [f"| median in {unit} | {' | '.join(heads)} |", f"|---|{'--:|' * len(heads)}"]
    for name in names:
        keys = [(name, head) if columns == "sides" else (head, name) for head in heads]
        cells = (_median(values(samples, metric, side)) for metric, side in keys)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _median(found: Sequence[float]) -> str:
    return short(spread(found).median) if found else ""


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
