"""Wall-clock time. Leases and due times use the database's clock (`app.db.types.db_now`)."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime


class _Clock:
    """Where the present moment comes from; the test kit puts its own in its place."""

    def __init__(self) -> None:
        self.source: Callable[[], datetime] | None = None


_clock = _Clock()


def utc_now() -> datetime:
    """Return the present moment as an aware datetime in UTC."""
    return datetime.now(UTC) if _clock.source is None else _clock.source()


@contextlib.contextmanager
def clock_from(source: Callable[[], datetime]) -> Iterator[None]:
    """Take the present moment of this process from `source` while the block runs."""
    before, _clock.source = _clock.source, source
    try:
        yield
    finally:
        _clock.source = before


def rfc3339(moment: datetime) -> str:
    """Return the moment in UTC as RFC 3339 text that ends in ``Z``, with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
