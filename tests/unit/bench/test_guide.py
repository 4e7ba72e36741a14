import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.__main__ import QUESTIONS
from bench.chart import draw, margin
from bench.guide import GUIDE, put, section_of
from bench.results import Result, keep, last, result_of
from bench.rounds import Bar, Sample, Verdict, judge
from bench.statistics import Spread

RATIO = Bar("rate", "ours", "a <peer>", "at least", 2.0, aim=3.0)
LIMIT = Bar("late", "ours", None, "at most", 100.0)


def sample(metric: str, side: str, number: int, value: float) -> Sample:
    return Sample("accept", metric, side, number, value, "1/s")


@pytest.fixture
def result() -> Result:
    values = {"ours": (40.0, 60.0), "a <peer>": (10.0, 20.0)}
    samples = [
        sample("rate", side, number, value)
        for side, measured in values.items()
        for number, value in enumerate(measured)
    ]
    remarks = ["load by wrk", "taskiq was not measured: gone\na log of many lines"]
    return result_of("accept", 2, 0.5, samples, remarks)


def test_a_section_takes_the_place_of_the_one_before() -> None:
    two = "<!-- bench: two -->\n<!-- /bench: two -->"
    text = f"a\n<!-- bench: one -->\nold\n<!-- /bench: one -->\n{two}"
    new = put(text, "one", r"new \1")
    assert "old" not in new
    assert new.count(r"new \1") == 1
    assert put(new, "one", "x") == put(text, "one", "x")
    assert new.endswith(two)
    with pytest.raises(ValueError, match="no markers of 'three'"):
        put(text, "three", "new")


def test_a_section_has_bars_figures_and_what_is_to_be_known(result: Result) -> None:
    verdicts = [judge(bar, result.samples) for bar in (RATIO, LIMIT)]
    section = section_of(result, verdicts)
    assert "| rate: ours ÷ a <peer> | 3 | 3.5 | 4 | at least 2, aim 3 | yes |" in section
    assert "| late: ours | | not measured | | at most 100 | |" in section
    assert "| rate | ours | 40 | 50 | 60 | 1/s |" in section
    assert "2 rounds, a scale of 0.5;" in section
    assert section.endswith("Load by wrk. Taskiq was not measured: gone.")


def test_a_column_for_each_side_or_metric_has_the_medians(result: Result) -> None:
    late = sample("late", "ours", 0, 1.0)
    result = replace(result, samples=[*result.samples, late])
    by_side = section_of(result, [judge(RATIO, result.samples)], "sides")
    assert "| rate: ours ÷ a <peer> | 3 | 3.5 | 4 |" in by_side
    table = """
| median in 1/s | ours | a <peer> |
|---|--:|--:|
| rate | 50 | 15 |
| late | 1 |  |

"""
    assert table in by_side
    table = """
| median in 1/s | rate | late |
|---|--:|--:|
| ours | 50 | 1 |
| a <peer> | 15 |  |

"""
    by_metric = section_of(result, [judge(RATIO, result.samples)], "metrics")
    assert table in by_metric
    assert by_metric.endswith(by_side[-80:])
    with pytest.raises(ValueError, match="unpack"):
        section_of(replace(result, samples=[replace(late, unit="s"), *result.samples]), [], "sides")


def test_a_question_that_brought_nothing_has_an_empty_table(result: Result) -> None:
    empty = replace(result, samples=[])
    assert section_of(empty, [], "sides") == section_of(empty, [])


def test_the_last_run_of_a_question_is_kept(tmp_path: Path, result: Result) -> None:
    assert last("accept", tmp_path) is None
    keep(result, tmp_path)
    keep(result, tmp_path)
    assert last("accept", tmp_path) == result
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2 * len(result.samples)


def test_the_guide_has_a_place_for_every_question() -> None:
    root = Path(__file__).parents[3]
    found = re.findall(r"<!-- bench: (\w+) -->", (root / GUIDE).read_text("utf-8"))
    assert sorted(found) == sorted(QUESTIONS)
    modules = {path.stem for path in (root / "bench/questions").glob("*.py")} - {"__init__"}
    assert modules == set(QUESTIONS)


@pytest.mark.parametrize(
    ("bar", "value", "factor"), [(RATIO, 6.0, 3.0), (RATIO, 1.0, 0.5), (LIMIT, 50.0, 2.0)]
)
def test_a_margin_is_how_much_better_than_the_bar(bar: Bar, value: float, factor: float) -> None:
    assert margin(Verdict(bar, None), value) == factor


def test_zero_is_the_best_or_the_worst() -> None:
    assert margin(Verdict(LIMIT, None), 0.0) > 1
    assert margin(Verdict(RATIO, None), 0.0) < 1


def test_the_picture_has_a_row_for_each_bar_with_figures() -> None:
    verdicts = [
        Verdict(RATIO, Spread(1.0, 4.0, 8.0)),
        Verdict(LIMIT, Spread(90.0, 300.0, 1e9)),
        Verdict(LIMIT, None),
    ]
    picture = ET.fromstring(draw({"speed": verdicts}))  # noqa: S314 - our own picture
    names = {"svg": "http://www.w3.org/2000/svg"}
    texts = [text.text for text in picture.findall("svg:text", names)]
    assert "speed · rate: ours ÷ a <peer>" in texts
    assert "4 (at least 2)" in texts
    assert texts.count("speed · late: ours") == 1
    circle = picture.findall("svg:circle", names)
    squares = [one for one in picture.findall("svg:rect", names) if one.get("x")]
    assert (len(circle), len(squares)) == (1, 1)
    bar = next(one for one in picture.findall("svg:line", names) if one.get("stroke") == "#1f2328")
    assert float(squares[0].get("x", 0)) < float(bar.get("x1", 0)) < float(circle[0].get("cx", 0))
