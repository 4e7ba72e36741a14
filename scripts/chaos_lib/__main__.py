"""Run the rows, print what was measured, and write the table of the guide."""

import argparse
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from scripts.chaos_lib import report
from scripts.chaos_lib.report import Row
from scripts.chaos_lib.rows import ROWS
from scripts.chaos_lib.yard import Yard, open_yard


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 when every row that ran met its bar."""
    options = _parse(arguments)
    print(f"chaos: seed {options.seed}, scale {options.scale:g}, {report.machine()}", flush=True)
    met = True
    for name in options.only:
        # Fresh servers for each row: what one did to them is not the next one's matter.
        with open_yard(options.seed, options.scale) as yard:
            for row in _run(name, yard):
                met &= row.met
                _keep(name, row, options)
    print("chaos: every bar was met" if met else "chaos: NOT every bar was met")
    return 0 if met else 1


def _run(name: str, yard: Yard) -> Iterator[Row]:
    """Yield the row's lines; one that breaks off is told as such and does not stop the others."""
    started = time.monotonic()
    print(f"chaos: {name}", flush=True)
    try:
        yield from ROWS[name](yard)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other rows can still run
        traceback.print_exc()
        yield Row("", "", f"broke off: {type(error).__name__}: {error}"[:300], met=False)
    print(f"chaos: {name} took {time.monotonic() - started:.0f} s", flush=True)


def _keep(key: str, row: Row, options: argparse.Namespace) -> None:
    print(f"  {'met' if row.met else 'NOT MET'}: {row.name}: {row.measured}", flush=True)
    if options.write:
        date = datetime.now(UTC).strftime("%Y-%m-%d")
        report.write(key, row, seed=options.seed, date=date)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=20_261)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="shrink every row, for a try; writes no table"
    )
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(ROWS),
        metavar="ROW,ROW",
        help=f"of: {', '.join(ROWS)}",
    )
    parser.add_argument("--no-write", dest="write", action="store_false", help="print only")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.only) - set(ROWS)):
        parser.error(f"unknown rows: {', '.join(unknown)}; there are: {', '.join(ROWS)}")
    options.write = options.write and options.scale == 1.0
    return options


if __name__ == "__main__":
    sys.exit(main())
