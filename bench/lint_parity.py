"""Whether the service finds what SQLFluff does: `python -m bench.lint_parity FOLDER`.

Lints every UTF-8 file of at most 20 kB without in-file configuration, by `sqlfluff lint
--ignore-local-config --templater raw` and in the service's sandbox, and compares code, line,
position and text of each violation. A first folder with the name of a dialect decides the dialect
of what lies below it. Exit code 1 when anything differs.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.plugins.lint.catalogue import catalogue
from app.plugins.lint.linting import Linter
from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox import close_sandboxes, sandboxes
from app.plugins.lint.settings import LintSettings
from bench.lint_files import MAX_BYTES

Found = set[tuple[str, int, int, str]]
_SQLFLUFF = str(Path(sys.executable).with_name("sqlfluff"))
# So many differences are shown.
_SHOWN = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare file by file and print the counts."""
    parser = argparse.ArgumentParser(prog="python -m bench.lint_parity", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dialect", default="ansi", help="of files below no dialect's folder")
    options = parser.parse_args(arguments)
    compared = violations = different = 0
    for dialect, paths in sorted(_by_dialect(options.folder, options.dialect).items()):
        theirs = _cli(paths, dialect)
        for path in paths:
            ours = _service(path, dialect)
            compared += 1
            violations += len(theirs[str(path)])
            if ours != theirs[str(path)]:
                different += 1
                _show(path, ours, theirs[str(path)], different)
        print(f"parity: {dialect}: {len(paths)} files", flush=True)
    close_sandboxes()
    print(f"parity: {compared} files, {violations} violations, {different} files differ")
    return 1 if different or not compared else 0


def _by_dialect(folder: Path, default: str) -> Mapping[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*.sql")):
        data = path.read_bytes()
        if 0 < len(data) <= MAX_BYTES and _is_plain(data):
            parts = path.relative_to(folder).parts[:-1]
            known = (part for part in parts if part in catalogue().dialects)
            found[next(known, default)].append(path)
    return found


def _is_plain(data: bytes) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not any(line.startswith(("-- sqlfluff", "--sqlfluff")) for line in text.splitlines())


def _cli(paths: list[Path], dialect: str) -> dict[str, Found]:
    command = [
        *(_SQLFLUFF, "lint", "--ignore-local-config", "--templater", "raw"),
        *("--disregard-sqlfluffignores", "--dialect", dialect, "--processes", "2"),
        *("--format", "json", *map(str, paths)),
    ]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode not in {0, 1}:
        raise SystemExit(done.stderr.decode(errors="replace")[-2000:])
    return {one["filepath"]: _found(one["violations"]) for one in json.loads(done.stdout)}


def _service(path: Path, dialect: str) -> Found:
    # Enough time on a machine with other work: what is compared is what is found.
    settings = LintSettings(deadline_base_seconds=120, deadline_max_seconds=600)
    linter = Linter(settings, sandboxes(settings.sandbox_limits()).lint)
    report = linter.lint_bytes(
        path.read_bytes(), Profile(dialect), file_name=path.name, max_bytes=MAX_BYTES
    )
    return (
        _found(report.document["violations"]) if report.document else {(report.outcome, 0, 0, "")}
    )


def _found(violations: list[dict[str, Any]]) -> Found:
    return {
        (one["code"], one["start_line_no"], one["start_line_pos"], one["description"])
        for one in violations
    }


def _show(path: Path, ours: Found, theirs: Found, number: int) -> None:
    if number <= _SHOWN:
        print(f"parity: {path}: only sqlfluff {sorted(theirs - ours)[:3]}")
        print(f"parity: {path}: only the service {sorted(ours - theirs)[:3]}")


if __name__ == "__main__":
    sys.exit(main())
