"""`python -m bench [QUESTION…]`: ask the questions, or all of them, and print the ratios."""

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from app.common.logging import configure_logging
from bench.chart import draw
from bench.guide import CHART, GUIDE, put, section_of
from bench.results import keep, last, result_of
from bench.rounds import Bench, Verdict, judge
from bench.running import BenchError
from bench.table import figures, judgements
from bench.yard import open_yard

QUESTIONS: Final = (
    "accept",
    "batch",
    "drain",
    "latency",
    "delays",
    "growth",
    "schedules",
    "memory",
    "idle",
    "profile",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask; exit 1 when a bar is not met at full scale, 2 without the services."""
    options = _parse(arguments)
    # Ended from outside, it still ends its processes and removes what it made on the services.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    configure_logging("ERROR", "json")
    asked = options.question or QUESTIONS
    try:
        for name in asked if not options.no_run else ():
            _ask(name, options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if options.guide:
        _write_guide(asked)
    met = [verdict.is_met for name in asked for verdict in _verdicts(name)]
    return 0 if options.scale < 1 or all(met) else 1


def _ask(name: str, options: argparse.Namespace) -> None:
    question = _module(name)
    print(f"\n{name}: {question.TITLE}", flush=True)
    with open_yard() as yard:
        bench = Bench(name, yard, options.rounds, options.scale, options.only)
        try:
            question.measure(bench)
        except BenchError as error:
            bench.remark(f"{name} could not be measured: {error}")
    result = result_of(name, options.rounds, options.scale, bench.samples, bench.remarks)
    keep(result)
    lines = ["", *figures(result.samples), "", *judgements(_verdicts(name))]
    print("\n".join(lines), flush=True)


def _verdicts(name: str) -> list[Verdict]:
    result = last(name)
    return [judge(bar, result.samples) for bar in _module(name).BARS] if result else []


def _write_guide(asked: Sequence[str]) -> None:
    """Write the sections of the questions that were asked, and the picture of all."""
    text = GUIDE.read_text("utf-8")
    for name in asked:
        if (result := last(name)) is not None:
            columns = getattr(_module(name), "COLUMNS", None)
            text = put(text, name, section_of(result, _verdicts(name), columns))
    GUIDE.write_text(text, "utf-8")
    CHART.write_text(draw({name: _verdicts(name) for name in QUESTIONS}), "utf-8")
    print(f"\nbench: {GUIDE} and {CHART} are written")


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"bench.questions.{name}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []], help="all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the work")
    parser.add_argument("--only", nargs="+", default=[], help="only these sides, by a part of name")
    parser.add_argument(
        "--guide", action="store_true", help="write the answers into docs/guides/performance.md"
    )
    parser.add_argument(
        "--no-run", action="store_true", help="take the last answers instead of asking"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
