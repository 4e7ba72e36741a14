from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.rounds import Bar, Bench, Sample, Verdict, judge, values
from bench.running import BenchError
from bench.sides import OURS, TASKIQ
from bench.statistics import Spread
from bench.table import columns, figures, judgements, short
from bench.yard import Yard
from tests.services import Services


def samples_of(side: str, *measured: float, metric: str = "rate") -> list[Sample]:
    return [
        Sample("question", metric, side, number, value, "1/s")
        for number, value in enumerate(measured)
    ]


def bench_of(tmp_path: Path, scale: float = 1.0, only: Sequence[str] = ()) -> Bench:
    return Bench("question", Yard(Services(), tmp_path), 3, scale, only)


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine was half as fast in the second round; the ratios do not see it.
    samples = samples_of("ours", 40, 20, 50) + samples_of("peer", 20, 10, 10)
    verdict = judge(Bar("rate", "ours", "peer", "at least", 2.0), samples)
    assert verdict.spread == Spread(2.0, 2.0, 5.0)
    assert verdict.is_met


@pytest.mark.parametrize(
    ("sense", "bar", "is_met"),
    [("at least", 3.0, True), ("at least", 3.1, False), ("at most", 3.0, True)],
)
def test_a_value_alone_is_held_to_its_bar(sense: str, bar: float, is_met: bool) -> None:
    promise = Bar("rate", "ours", None, "at least" if sense == "at least" else "at most", bar)
    assert judge(promise, samples_of("ours", 1, 3, 4)).is_met is is_met


def test_a_side_with_a_missing_round_is_not_judged() -> None:
    samples = samples_of("ours", 1, 2) + samples_of("peer", 1)
    verdict = judge(Bar("rate", "ours", "peer", "at least", 0.1), samples)
    assert verdict.spread is None
    assert not verdict.is_met


def test_values_are_of_one_metric_in_the_order_of_the_rounds() -> None:
    samples = [*reversed(samples_of("ours", 1, 2)), *samples_of("ours", 9, metric="p50")]
    assert values(samples, "rate", "ours") == [1, 2]


def test_another_side_begins_in_each_round(tmp_path: Path) -> None:
    turns = list(bench_of(tmp_path).turns("abc"))
    assert "".join(side for _, side in turns) == "abcbcacab"
    assert [number for number, _ in turns] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_the_scale_shrinks_down_to_the_least(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, scale=0.1)
    assert (bench.of(10_000), bench.of(3), bench.of(100, least=50)) == (1000, 1, 50)


def test_only_the_sides_that_are_asked_for(tmp_path: Path) -> None:
    assert bench_of(tmp_path).wants(TASKIQ)
    only = bench_of(tmp_path, only=["task"])
    assert (only.wants(TASKIQ), only.wants(OURS)) == (True, True)
    assert not bench_of(tmp_path, only=["celery"]).wants(TASKIQ)


def test_what_one_side_cannot_do_is_told(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    for error in (BenchError("no such option"), BenchError("no answer")):
        with bench.trying(TASKIQ):
            raise error
    assert bench.remarks == [
        "taskiq was not measured: no such option",
        "taskiq was not measured: no answer",
    ]


def test_the_table_has_a_line_per_side() -> None:
    lines = figures(samples_of("ours", 1, 2000, 3) + samples_of("a peer", 0.5))
    assert [line.split() for line in lines[1:]] == [
        ["rate", "ours", "1", "3", "2,000", "1/s"],
        ["rate", "a", "peer", "0.5", "0.5", "0.5", "1/s"],
    ]


def test_a_verdict_tells_what_was_reached() -> None:
    bar = Bar("rate", "ours", "peer", "at least", 2.0)
    lines = judgements([Verdict(bar, Spread(1.0, 1.5, 3.0)), Verdict(bar, None)])
    assert lines[1].split()[4:] == ["1", "1.5", "3", "at", "least", "2", "NOT", "MET"]
    assert "not measured" in lines[2]


def test_columns_are_aligned() -> None:
    assert columns([("a", "1"), ("long", "1,000")]) == ["a         1", "long  1,000"]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.12345, "0.123"), (99.96, "100"), (12345.6, "12,346")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text
