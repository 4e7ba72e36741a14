"""A clock that stands still until a test moves it: for Python, and inside SQLite."""

import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, event

_START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)  # A Monday morning; any moment would do.
_BY_ARGUMENTS = ("strftime", "datetime", "date", "time", "julianday", "unixepoch")
_BY_NAME = {
    "current_timestamp": "%Y-%m-%d %H:%M:%S",
    "current_date": "%Y-%m-%d",
    "current_time": "%H:%M:%S",
}


class FrozenClock:
    """The present moment, moved by `advance` only. It counts whole milliseconds."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = _floor(start or _START)
        # SQLite itself does the arithmetic with dates; its functions are called from the threads
        # of several connections.
        self._lock = threading.Lock()
        self._plain = sqlite3.connect(":memory:", check_same_thread=False)

    def now(self) -> datetime:
        """Return the moment at which the clock stands, in UTC."""
        return self._now

    def advance_to(self, moment: datetime) -> None:
        """Move the clock forward; a moment that has passed changes nothing."""
        self._now = max(self._now, _floor(moment + timedelta(microseconds=999)))

    def rule(self, engine: Engine) -> None:
        """Let every connection that the engine opens from now on read this clock."""
        event.listen(engine, "connect", self._install)

    def close(self) -> None:
        """Let go of the arithmetic."""
        self._plain.close()

    def _install(self, dbapi: Any, record: object) -> None:
        del record
        for name in _BY_ARGUMENTS:
            dbapi.create_function(name, -1, self._function(name))
        for name, form in _BY_NAME.items():
            dbapi.create_function(name, 0, lambda form=form: self._now.strftime(form))

    def _function(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            # Without a time such a function means the present moment.
            given = arguments or ("now",)
            if name == "strftime" and len(given) == 1:
                given = (*given, "now")
            moment = self._now.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
            values = [moment if _is_now(value) else value for value in given]
            places = ",".join("?" * len(values))
            with self._lock:
                (result,) = self._plain.execute(f"SELECT {name}({places})", values).fetchone()
            return result

        return call


def _is_now(value: object) -> bool:
    return isinstance(value, str) and value.lower() == "now"


def _floor(moment: datetime) -> datetime:
    in_utc = moment.astimezone(UTC)
    return in_utc.replace(microsecond=in_utc.microsecond // 1000 * 1000)
