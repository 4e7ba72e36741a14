"""Samples and verdicts as text."""

from collections.abc import Sequence

from bench.rounds import Sample, Verdict, values
from bench.statistics import spread

_HEAD = ("least", "median", "most")


def figures(samples: Sequence[Sample]) -> list[str]:
    """Return a line per metric and side: minimum, median and maximum of the rounds."""
    keys = dict.fromkeys((one.metric, one.side, one.unit) for one in samples)
    rows = []
    for metric, side, unit in keys:
        found = spread(values(samples, metric, side))
        rows.append((metric, side, *map(short, (found.least, found.median, found.most)), unit))
    return columns([("", "", *_HEAD, ""), *rows])


def judgements(verdicts: Sequence[Verdict]) -> list[str]:
    """Return a line per bar: the ratio's spread and whether its median keeps the promise."""
    if not verdicts:
        return []
    rows = []
    for verdict in verdicts:
        bar, found = verdict.bar, verdict.spread
        told = (
            map(short, (found.least, found.median, found.most))
            if found
            else ("not measured", "", "")
        )
        mark = "" if found is None else "met" if verdict.is_met else "NOT MET"
        rows.append((title_of(verdict), *told, f"{bar.sense} {bar.bar:g}", mark))
    return columns([("", *_HEAD, "bar", ""), *rows])


def title_of(verdict: Verdict) -> str:
    """Return what is held against the bar."""
    bar = verdict.bar
    over = f" ÷ {bar.peer}" if bar.peer else ""
    return f"{bar.metric}: {bar.ours}{over}"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines with aligned columns; numbers to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(map(_aligned, row, widths)).rstrip() for row in rows]


def _aligned(cell: str, width: int) -> str:
    is_number = cell.replace(",", "").replace(".", "").isdigit() or cell in _HEAD
    return cell.rjust(width) if is_number else cell.ljust(width)


def short(value: float) -> str:
    """Return the number with three significant digits, at least all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "0"
