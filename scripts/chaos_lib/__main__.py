"""Run the rows, print what was measured, and write the table of the guide."""

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from scripts.chaos_lib import report
from scripts.chaos_lib.report import Row
from scripts.chaos_lib.rows import ROWS
from scripts.chaos_lib.yard import Yard, open_yard

Measure = Callable[[Yard], Iterator[Row]]
Servers = Callable[[int, float], AbstractContextManager[Yard]]


def main(
    arguments: Sequence[str] | None = None,
    *,
    rows: Mapping[str, Measure] = ROWS,
    servers: Servers = open_yard,
) -> int:
    """Exit code: 0 when every row that ran met its bar."""
    options = _parse(arguments, rows)
    # Before the table is written, which changes the tree.
    code = report.commit()
    print(f"chaos: seed {options.seed}, scale {options.scale:g}, {code}, {report.machine()}")
    told: list[str] = []
    is_met = True
    for name in options.only:
        print(f"chaos: {name}", flush=True)
        started = time.monotonic()
        lines = _run(rows[name], servers, options)
        seconds = time.monotonic() - started
        for row in lines:
            is_met &= row.met
            told.append(_in_words(name, row, seconds))
            print(told[-1], flush=True)
            if options.write:
                report.write(name, row, report.how(options.seed, code, seconds))
    print("\n".join(["chaos: what ran", *told]))
    print("chaos: every bar was met" if is_met else "chaos: NOT every bar was met")
    return 0 if is_met else 1


def _run(measure: Measure, servers: Servers, options: argparse.Namespace) -> list[Row]:
    """Return the lines of a row; one that breaks off is told as such and does not stop the others.

    Fresh servers for each row: what one did to them is not the next one's matter.
    """
    try:
        with servers(options.seed, options.scale) as yard:
            lines = _lines(measure, yard)
            if not all(row.met for row in lines):
                print(f"chaos: its logs stay in {yard.kit.keep_folder()}", flush=True)
            return lines
    except Exception as error:  # noqa: BLE001 - a server that does not start
        return [_broken_off(error)]


def _lines(measure: Measure, yard: Yard) -> list[Row]:
    try:
        return list(measure(yard))
    except Exception as error:  # noqa: BLE001 - whatever it is, the other rows can still run
        return [_broken_off(error)]


def _broken_off(error: Exception) -> Row:
    traceback.print_exception(error)
    return Row.of_failure(error)


def _in_words(name: str, row: Row, seconds: float) -> str:
    return f"  {name:<18}{'met' if row.met else 'NOT MET':<9}{seconds:>5.0f} s  {row.measured}"


def _parse(arguments: Sequence[str] | None, rows: Mapping[str, Measure]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=20_261)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="shrink every row, for a try; writes no table"
    )
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(rows),
        metavar="ROW,ROW",
        help=f"of: {', '.join(rows)}",
    )
    parser.add_argument("--no-write", dest="write", action="store_false", help="print only")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.only) - set(rows)):
        parser.error(f"unknown rows: {', '.join(unknown)}; there are: {', '.join(rows)}")
    options.write = options.write and options.scale == 1.0
    return options


if __name__ == "__main__":
    sys.exit(main())
