"""The frame of every question: interleaved rounds, samples, and the bars that they are held to."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from bench.running import BenchError, Control
from bench.sides import Side
from bench.statistics import Spread, ratios, spread
from bench.yard import Yard

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One measured value."""

    question: str
    metric: str
    side: str
    round: int
    value: float
    unit: str


@dataclass(frozen=True)
class Bar:
    """A promise about the ratio of two sides, ours above, or about a value alone."""

    metric: str
    ours: str
    peer: str | None
    sense: Literal["at least", "at most"]
    bar: float
    aim: float | None = None

    def is_met(self, value: float) -> bool:
        """Return whether the value keeps the promise."""
        return value >= self.bar if self.sense == "at least" else value <= self.bar


@dataclass(frozen=True)
class Verdict:
    """A bar with what was measured for it; no spread when a side could not be measured."""

    bar: Bar
    spread: Spread | None

    @property
    def is_met(self) -> bool:
        """Return whether the median keeps the promise."""
        return self.spread is not None and self.bar.is_met(self.spread.median)


@dataclass
class Bench:
    """One run of one question."""

    question: str
    yard: Yard
    rounds: int
    scale: float
    only: Sequence[str] = ()
    samples: list[Sample] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def of(self, number: float, least: int = 1) -> int:
        """Return a number of the question, shrunk by the scale."""
        return max(least, round(number * self.scale))

    def wants(self, side: Side) -> bool:
        """Return whether the side is among those that were asked for."""
        return not self.only or any(part in side.name for part in self.only)

    def turns(self, sides: Sequence[T]) -> Iterator[tuple[int, T]]:
        """Yield round and side; another side begins in each round, so that none is always first."""
        for number in range(self.rounds):
            start = number % len(sides)
            for side in (*sides[start:], *sides[:start]):
                yield number, side

    def controls(self, stack: contextlib.ExitStack, sides: Sequence[Side]) -> list[Control]:
        """Return the adapters of the sides that are asked for and can be prepared."""
        opened = []
        for side in filter(self.wants, sides):
            with self.trying(side):
                opened.append(stack.enter_context(self.yard.control(side)))
        return opened

    @contextlib.contextmanager
    def trying(self, side: Side) -> Iterator[None]:
        """Tell what the side could not do, and go on with the others."""
        try:
            yield
        except BenchError as error:
            self.remark(f"{side.name} was not measured: {error}")

    def note(self, metric: str, side: Side | str, number: int, value: float, unit: str) -> None:
        """Keep one value and tell it."""
        name = side if isinstance(side, str) else side.name
        self.samples.append(Sample(self.question, metric, name, number, value, unit))
        print(f"  {number + 1}/{self.rounds}  {metric}: {name}: {value:.4g} {unit}", flush=True)

    def remark(self, text: str) -> None:
        """Keep what has to be known about the figures."""
        self.remarks.append(text)
        print(f"  {text}", flush=True)


def values(samples: Sequence[Sample], metric: str, side: str) -> list[float]:
    """Return the values of a side, one per round, in the order of the rounds."""
    found = [one for one in samples if one.metric == metric and one.side == side]
    return [one.value for one in sorted(found, key=lambda one: one.round)]


def judge(bar: Bar, samples: Sequence[Sample]) -> Verdict:
    """Return how the bar was met."""
    ours = values(samples, bar.metric, bar.ours)
    if bar.peer is None:
        return Verdict(bar, spread(ours) if ours else None)
    peer = values(samples, bar.metric, bar.peer)
    if not ours or len(ours) != len(peer):
        return Verdict(bar, None)
    return Verdict(bar, spread(ratios(ours, peer)))
