"""One picture of all bars: by which factor each is met, on one logarithmic axis."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Final

from bench.rounds import Verdict
from bench.table import short, title_of

_ROW: Final = 26
_LABELS: Final = 430
_PLOT: Final = 420
_FIGURES: Final = 150
_TOP: Final = 56
_LOWEST, _HIGHEST = 0.1, 100.0
_MET, _MISSED = "#1a7f5a", "#b5471b"
_STYLE: Final = "font-family='system-ui, sans-serif' font-size='13' fill='#1f2328'"


def margin(verdict: Verdict, value: float) -> float:
    """Return by which factor a value is better than the bar; below 1 it is worse."""
    if value <= 0:
        return _HIGHEST if verdict.bar.sense == "at most" else _LOWEST
    return value / verdict.bar.bar if verdict.bar.sense == "at least" else verdict.bar.bar / value


def draw(verdicts: Mapping[str, Sequence[Verdict]]) -> str:
    """Return an SVG picture with a row per verdict, of each question, that has figures."""
    shown = [
        (f"{question} \N{MIDDLE DOT} {title_of(verdict)}", verdict)
        for question, answers in verdicts.items()
        for verdict in answers
        if verdict.spread is not None
    ]
    width, height = _LABELS + _PLOT + _FIGURES, _TOP + _ROW * len(shown) + 16
    size = f"viewBox='0 0 {width} {height}' width='{width}' height='{height}'"
    rows = (line for number, row in enumerate(shown) for line in _row(number, *row))
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img' {_STYLE}>",
        "<title>By which factor each bar is met</title>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        _text(_place(1), 18, "the bar", anchor="middle"),
        *_axis(height),
        *rows,
        "</svg>",
        "",
    ]
    return "\n".join(lines)


def _axis(height: int) -> list[str]:
    lines = []
    for factor in (0.1, 0.3, 1, 3, 10, 30, 100):
        place = _place(factor)
        colour = "#1f2328" if factor == 1 else "#d0d7de"
        lines.append(_line((place, _TOP - 14), (place, height - 8), colour, 1))
        lines.append(_text(place, _TOP - 20, f"x {factor:g}", anchor="middle"))
    return lines


def _row(number: int, title: str, verdict: Verdict) -> list[str]:
    spread = verdict.spread
    if spread is None:
        return []
    middle = _TOP + _ROW * number + _ROW // 2
    colour = _MET if verdict.is_met else _MISSED
    first, last = sorted(_place(margin(verdict, value)) for value in (spread.least, spread.most))
    mark = _place(margin(verdict, spread.median))
    # The shape tells it as well, for whoever does not see the colour.
    shape = (
        f"<circle cx='{mark}' cy='{middle}' r='6' fill='{colour}'/>"
        if verdict.is_met
        else f"<rect x='{mark - 5}' y='{middle - 5}' width='10' height='10' fill='{colour}'/>"
    )
    told = f"{short(spread.median)} ({verdict.bar.sense} {verdict.bar.bar:g})"
    return [
        _text(_LABELS - 12, middle + 4, title, anchor="end"),
        _line((first, middle), (last, middle), colour, 3),
        shape,
        _text(_LABELS + _PLOT + 12, middle + 4, told, anchor="start"),
    ]


def _text(x: float, y: float, text: str, *, anchor: str) -> str:
    return f"<text x='{x}' y='{y}' text-anchor='{anchor}'>{html.escape(text)}</text>"


def _line(begin: tuple[float, float], end: tuple[float, float], colour: str, width: int) -> str:
    place = f"x1='{begin[0]}' y1='{begin[1]}' x2='{end[0]}' y2='{end[1]}'"
    return f"<line {place} stroke='{colour}' stroke-width='{width}'/>"


def _place(factor: float) -> float:
    """Return where a factor lies on the axis; what is beyond its ends lies on them."""
    held = min(max(factor, _LOWEST), _HIGHEST)
    share = math.log(held / _LOWEST) / math.log(_HIGHEST / _LOWEST)
    return round(_LABELS + share * _PLOT, 1)
