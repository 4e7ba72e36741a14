"""Hostile texts and archives, timed: `python -m bench.lint_hostile`.

Every attack and every pathological input of the tests goes through a sandbox with a deadline of its
own, and the archives of the tests through the reader. Exit code 1 when an attack left its mark, a
text outlived its deadline by more than a second, or an archive took more than five.
"""

import io
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox import Sandboxes
from app.plugins.lint.settings import LintSettings
from app.storage.safe_zip import ArchiveRefused, ZipLimits, read_archive
from tests.unit.plugins.lint.attacks import ATTACKS, PATHOLOGICAL, set_trap
from tests.unit.storage.test_zip_members import CONFLICTS, IN_THE_DIRECTORY
from tests.unit.storage.test_zip_structure import BROKEN, WRONG_TYPES
from tests.unit.storage.zip_builder import Item, build

_DEADLINE_SECONDS = 2.0
_LATE_SECONDS = 1.0
_ARCHIVE_SECONDS = 5.0
_MEBIBYTE = 2**20


def main() -> int:
    """Print the figures; return 1 when a bar is not met."""
    met = [_texts(), _archives()]
    return 0 if all(met) else 1


def _texts() -> bool:
    sandboxes = Sandboxes(LintSettings(sandbox_processes=1).sandbox_limits())
    profile, latest, ended = Profile("ansi"), 0.0, 0
    with tempfile.TemporaryDirectory(prefix="taskyard-hostile-") as name:
        trap = set_trap(Path(name))
        hostile = {key: text.format(trap=trap) for key, text in ATTACKS.items()} | PATHOLOGICAL
        sandboxes.lint("SELECT 1\n", profile, 60.0)
        for text in hostile.values():
            started = time.perf_counter()
            outcome = sandboxes.lint(text, profile, _DEADLINE_SECONDS).outcome
            latest = max(latest, time.perf_counter() - started - _DEADLINE_SECONDS)
            ended += outcome in {"timeout", "memory", "crashed"}
        marked = (trap.parent / "PWNED").exists()
    alive = sandboxes.lint("SELECT 1\n", profile, 60.0).outcome == "linted"
    sandboxes.close()
    print(
        f"hostile: {len(hostile)} texts, {ended} stopped, the latest {latest:+.2f} s from its "
        f"deadline, {int(marked)} left a mark, the next lint {'is fine' if alive else 'fails'}"
    )
    return alive and not marked and latest <= _LATE_SECONDS


def _archives() -> bool:
    limits = ZipLimits(max_members=10_000, max_archive_bytes=2**28, max_total_bytes=2**28)
    before, longest, refused = _peak_mb(), 0.0, 0
    archives = _hostile_archives()
    for data in archives.values():
        started = time.perf_counter()
        try:
            with read_archive(io.BytesIO(data), limits) as report:
                refused += bool(report.rejected)
        except ArchiveRefused:
            refused += 1
        longest = max(longest, time.perf_counter() - started)
    grown = _peak_mb() - before
    print(
        f"hostile: {len(archives)} archives, {refused} refused or in part, the longest "
        f"{longest:.2f} s, memory grew by {grown:.0f} MB"
    )
    return longest <= _ARCHIVE_SECONDS


def _hostile_archives() -> Mapping[str, bytes]:
    return {
        **{name: build(Item(), item) for name, (item, _) in IN_THE_DIRECTORY.items()},
        **{
            name: build(Item(), *(Item(one) for one in names))
            for name, (names, _) in CONFLICTS.items()
        },
        **{name: data for name, (data, _) in BROKEN.items()},
        **WRONG_TYPES,
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MEBIBYTE


if __name__ == "__main__":
    sys.exit(main())
