"""`python -m bench [QUESTION…]`: ask the questions, or all of them, and print the ratios."""

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from app.common.logging import configure_logging
from bench.rounds import Bench, Verdict, append_lines, judge
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
    "memory",
    "idle",
    "profile",
)
RESULTS: Final = Path(".bench/results.jsonl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask; exit 1 when a bar is not met at full scale."""
    options = _parse(arguments)
    # Ended from outside, it still ends its processes and removes what it made on the services.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    configure_logging("ERROR", "json")
    verdicts: list[Verdict] = []
    for name in options.question or QUESTIONS:
        verdicts += _ask(name, options)
    return 0 if options.scale < 1 or all(verdict.is_met for verdict in verdicts) else 1


def _ask(name: str, options: argparse.Namespace) -> list[Verdict]:
    question = _module(name)
    print(f"\n{name}: {question.TITLE}", flush=True)
    with open_yard() as yard:
        bench = Bench(name, yard, options.rounds, options.scale, options.only)
        try:
            question.measure(bench)
        except BenchError as error:
            print(f"bench: {name} could not be measured: {error}", file=sys.stderr)
    append_lines(options.json, bench.samples, options.scale)
    verdicts = [judge(bar, bench.samples) for bar in question.BARS]
    lines = ["", *figures(bench.samples), "", *judgements(verdicts)]
    print("\n".join(lines), flush=True)
    return verdicts


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"bench.questions.{name}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []], help="all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the work")
    parser.add_argument("--only", nargs="+", default=[], help="only these sides, by a part of name")
    parser.add_argument("--json", type=Path, default=RESULTS, help="the samples are added here")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
