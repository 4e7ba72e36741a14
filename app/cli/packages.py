"""The Python and the libraries that this program runs with, beside what it asks for."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from app.common.findings import Finding, good, is_older

_PYTHON = (3, 11)
_DISTRIBUTION = "taskyard"


def check_packages() -> Iterator[Finding]:
    """Yield whether Python and each required library are within their bounds."""
    python = platform.python_version()
    if is_older(python, _PYTHON):
        yield Finding(
            check="python",
            level="fail",
            what=f"Python {python}",
            why="3.11 is the oldest that the code is written for.",
            fix="PYTHON=/path/to/python3 make setup",
        )
    else:
        yield good("python", f"Python {python}")
    wrong = [told for line in requires(_DISTRIBUTION) or [] if (told := _wrong(Requirement(line)))]
    if wrong:
        yield Finding(
            check="libraries",
            level="fail",
            what=", ".join(wrong),
            why="These versions are not the ones that the code was tested with.",
            fix="make setup",
        )
    else:
        celery, sqlalchemy = version("celery"), version("sqlalchemy")
        yield good("libraries", f"within their bounds (Celery {celery}, SQLAlchemy {sqlalchemy})")


def _wrong(wanted: Requirement) -> str | None:
    """Return what is wrong with one library, None when it fits or is not asked for here."""
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return None
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is not installed"
    if wanted.specifier.contains(found, prereleases=True):
        return None
    return f"{wanted.name} {found} is not {wanted.specifier}"
