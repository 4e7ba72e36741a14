"""What the rounds of `bench.lint` measured, as rows of a table with the bar of each."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.processes import Used

_LEAST_RATIO = 1.2
_LEAST_AGAIN = 20.0
_MOST_IDLE_MS = 60.0
_MOST_BUSY = 2.0
_MOST_MB = 130.0
# A process whose memory has grown by more than this share between the two looks still grows.
_GROWTH = 1.1


@dataclass
class Figures:
    """What the rounds measured, in seconds; `cpu` is processor time without the servers'."""

    service: list[float] = field(default_factory=list)
    service_cpu: list[float] = field(default_factory=list)
    cli: list[float] = field(default_factory=list)
    cli_cpu: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    memory: dict[str, list[Used]] = field(default_factory=dict)


def table(figures: Figures, files: int) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    rounds = len(figures.service)
    yield f"rounds: {rounds}, of {files} files; medians, with each round's in brackets"
    yield "| what | bar | measured | met |"
    yield "|---|---|---|---|"
    for what, bar, measured, is_met in _rows(figures, files):
        yield f"| {what} | {bar} | {measured} | {'yes' if is_met else '**no**'} |"


def _rows(figures: Figures, files: int) -> Iterator[tuple[str, str, str, bool]]:
    wall = _ratios(figures.cli, figures.service)
    cpu = _ratios(figures.cli_cpu, figures.service_cpu)
    again = _ratios(figures.service, figures.again)
    median = statistics.median
    speeds = (files / median(seconds) for seconds in (figures.service, figures.cli))
    yield (
        f"archive of {files} files ÷ `sqlfluff lint --processes 2`, files per second",
        f"at least {_LEAST_RATIO}",
        f"{_told(wall)}: {next(speeds):.1f} against {next(speeds):.1f}; {_told(cpu)} by CPU",
        median(wall) >= _LEAST_RATIO,
    )
    yield (
        "the same archive again",
        f"at least {_LEAST_AGAIN:.0f} times faster",
        f"{_told(again, 0)} times ({median(figures.again):.2f} s)",
        median(again) >= _LEAST_AGAIN,
    )
    idle, busy = median(figures.idle) * 1000, median(figures.busy) * 1000
    yield (
        "one small lint, p50, idle",
        f"at most {_MOST_IDLE_MS:.0f} ms",
        f"{idle:.0f} ms ({len(figures.idle)} lints)",
        idle <= _MOST_IDLE_MS,
    )
    yield (
        "one small lint, p50, beside the archive",
        f"at most {_MOST_BUSY:.0f} times that",
        f"{busy:.0f} ms, {busy / idle:.1f} times ({len(figures.busy)} lints)",
        busy <= _MOST_BUSY * idle,
    )
    yield (
        "own memory of a process, at 30 % and at the end",
        f"at most {_MOST_MB:.0f} MB, no growth",
        "; ".join(f"{moment}: {_sizes(used)}" for moment, used in figures.memory.items()),
        _is_steady(figures.memory),
    )


def _is_steady(memory: Mapping[str, Sequence[Used]]) -> bool:
    looks = list(memory.values())
    before = {one.pid: one.own_mb for one in looks[0]}
    # One that has been replaced meanwhile has begun anew, and cannot be compared.
    grown = (one.own_mb > _GROWTH * before[one.pid] + 1 for one in looks[-1] if one.pid in before)
    return all(one.own_mb <= _MOST_MB for look in looks for one in look) and not any(grown)


def _sizes(used: Sequence[Used]) -> str:
    return ", ".join(f"{one.role} {one.own_mb:.0f}" for one in used)


def _ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def _told(ratios: Sequence[float], places: int = 2) -> str:
    each = ", ".join(f"{ratio:.{places}f}" for ratio in ratios)
    return f"{statistics.median(ratios):.{places}f} ({each})"
