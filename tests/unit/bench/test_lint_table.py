"""The rows of `make bench-lint`: what was measured, the bar, and whether it is met."""

import pytest

from bench.lint_table import Figures, table
from bench.processes import Used


def figures() -> Figures:
    return Figures(
        service=[50.0, 40.0, 60.0],
        service_cpu=[80.0, 80.0, 80.0],
        cli=[65.0, 60.0, 66.0],
        cli_cpu=[120.0, 120.0, 120.0],
        again=[1.0, 1.0, 1.0],
        idle=[0.02, 0.02, 0.3],
        busy=[0.039, 0.039, 0.2],
        memory={
            "at 30 %": [Used("worker", 1, 40.0), Used("lint child", 2, 50.0)],
            "at the end": [Used("worker", 1, 41.0), Used("lint child", 3, 90.0)],
        },
    )


def met(told: Figures) -> list[str]:
    return [line.split("|")[-2].strip() for line in list(table(told, 1000))[3:]]


def test_every_row_has_its_figures_and_its_bar() -> None:
    lines = list(table(figures(), 1000))
    assert lines[0].startswith("rounds: 3, of 1000 files")
    assert "1.30 (1.30, 1.50, 1.10): 20.0 against 15.4; 1.50 (" in lines[3]
    assert "50 (50, 40, 60) times (1.00 s)" in lines[4]
    assert "| 20 ms (3 lints) | yes |" in lines[5]
    assert "39 ms, 1.9 times" in lines[6]
    assert "at 30 %: worker 40, lint child 50; at the end: worker 41, lint child 90" in lines[7]
    assert met(figures()) == ["yes"] * 5


@pytest.mark.parametrize(
    ("row", "worse"),
    [
        (0, {"cli": [55.0, 47.0, 66.0]}),
        (1, {"again": [3.0, 3.0, 3.0]}),
        (2, {"idle": [0.061, 0.061, 0.061]}),
        (3, {"busy": [0.041, 0.041, 0.041]}),
        (4, {"memory": {"at 30 %": [Used("worker", 1, 131.0)]}}),
        (4, {"memory": {"a": [Used("worker", 1, 40.0)], "b": [Used("worker", 1, 46.0)]}}),
    ],
)
def test_a_row_that_misses_its_bar_says_so(row: int, worse: dict[str, object]) -> None:
    told = figures()
    for name, value in worse.items():
        setattr(told, name, value)
    assert met(told)[row] == "**no**"
