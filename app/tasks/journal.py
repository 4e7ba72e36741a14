"""What an attempt tells while it runs: log lines and reports of progress, on their way to its run.

Every change that is told of a run takes the next number of the run (`last_seq`) by an UPDATE of
its row. The row's lock is held to the commit, so numbers become visible in their order: who has
seen one has missed none before it. The same UPDATE checks the fence: a zombie tells nothing.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import bindparam, insert, select, text, union_all, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import SQLAlchemyError

from app.common.clock import utc_now
from app.common.errors import ServiceUnavailable
from app.common.logging import get_logger
from app.common.metrics import STALE_WRITES
from app.common.strict_json import dumps
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.types import JsonType, db_now
from app.tasks.errors import StaleAttempt
from app.tasks.models import TaskRun, TaskRunLog, TaskRunProgress
from app.tasks.statuses import Status

# The first thing is written at once, what follows it within this time is written together.
SHORTEST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
_PAUSE_PER_SECOND = 0.01
_GATHERING_SECONDS = 0.05
_RUN = TaskRun.__table__.c
_LOG = TaskRunLog.__table__.c
_PROGRESS = TaskRunProgress.__table__.c
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """A log line; `number` counts what the attempt has told."""

    number: int
    at: datetime
    level: str
    message: str
    fields: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Report:
    """How far the attempt says that it is: `current`, `total`, `message`."""

    number: int
    at: datetime
    report: dict[str, Any]


Entry = Line | Report


class Place(Protocol):
    """Where a journal is written."""

    def can_write(self) -> bool:
        """Return whether a write now would not wait for the attempt's own transaction."""

    def write(self, entries: Sequence[Entry], *, unsure: bool) -> None:
        """Write the entries in one commit, blocking; StaleAttempt when the lease is lost.

        With `unsure` an earlier try with the same first entry may have been committed.
        """

    async def write_async(self, entries: Sequence[Entry], *, unsure: bool) -> None:
        """Do the same without blocking the loop."""


class Journal:
    """Gathers what one attempt tells and writes it while the attempt runs, seldom enough.

    Every line is kept; of reports that come faster than they are written the last one is.
    """

    def __init__(self, place: Place, *, max_lines: int, clock: Any = time.monotonic) -> None:
        self._place = place
        self._clock = clock
        self._began = clock()
        self._due = self._began
        self._max_lines = max_lines
        self._lines = 0
        self._number = 0
        self._entries: list[Entry] = []
        self._sending: list[Entry] = []
        self._unsure = False
        self._stale: StaleAttempt | None = None
        self._writer: asyncio.Task[None] | None = None
        self._asleep = False

    def line(self, level: str, message: str, fields: dict[str, Any] | None) -> None:
        """Add a log line; past the limit of lines it is only counted."""
        self._lines += 1
        if self._lines <= self._max_lines:
            self._entries.append(Line(self._next(), utc_now(), level, message, fields))

    def report(self, report: dict[str, Any]) -> None:
        """Add a report of progress in place of one that is not written yet."""
        self._entries = [entry for entry in self._entries if isinstance(entry, Line)]
        self._entries.append(Report(self._next(), utc_now(), report))

    def take(self) -> list[Entry]:
        """Return what is not written yet, for the commit of the outcome, and forget it."""
        if (dropped := self._lines - self._max_lines) > 0:
            told = f"{dropped} more lines were left out; an attempt keeps {self._max_lines}."
            self._entries.append(Line(self._next(), utc_now(), "warning", told, None))
        entries = [*self._sending, *self._entries]
        self._sending, self._entries, self._lines = [], [], 0
        return entries

    @property
    def is_open(self) -> bool:
        """Whether the loop has a writer to settle."""
        return self._writer is not None and not self._writer.done()

    @property
    def unsure(self) -> bool:
        """Whether the first entry of `take` may be in the database already."""
        return self._unsure

    def raise_if_stale(self) -> None:
        """Raise StaleAttempt when a write has found that the lease is lost."""
        if self._stale is not None:
            raise self._stale

    def flush_if_due(self) -> None:
        """Write what is there when it is time to, blocking."""
        if not self._begin(self._clock()):
            return
        try:
            self._place.write(self._sending, unsure=self._unsure)
        except BaseException as error:  # noqa: BLE001 - judged and raised again in `_failed`
            self._failed(error)
        else:
            self._done()

    async def flush_if_due_async(self) -> None:
        """Write what is there when it is time to, else within the pause."""
        if self._begin(self._clock()):
            await self._send()
        elif self._entries:
            self.flush_soon()

    def flush_soon(self) -> None:
        """Let the running loop write what is there when the pause is over."""
        if self._writer is None or self._writer.done():
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return  # A thread of the task's own: the next call from the loop writes its lines.
            self._writer = loop.create_task(self._write_later())

    async def settle(self) -> None:
        """Let a write that is under way end, and begin no other."""
        self._due = float("inf")
        if self._writer is None:
            return
        if self._asleep:
            self._writer.cancel()
        await asyncio.wait([self._writer])

    async def _write_later(self) -> None:
        while self._entries and self._stale is None and self._due != float("inf"):
            self._asleep = True
            await asyncio.sleep(max(_GATHERING_SECONDS, self._due - self._clock()))
            self._asleep = False
            if self._begin(self._clock()):
                await self._send()

    async def _send(self) -> None:
        try:
            await self._place.write_async(self._sending, unsure=self._unsure)
        except BaseException as error:  # noqa: BLE001 - judged and raised again in `_failed`
            self._failed(error)
        else:
            self._done()

    def _begin(self, now: float) -> bool:
        if now < self._due or self._sending or self._stale or not self._entries:
            return False
        if not self._place.can_write():
            self._wait(now)
            return False
        self._sending, self._entries = self._entries, []
        return True

    def _done(self) -> None:
        self._sending, self._unsure = [], False
        self._wait(self._clock())

    def _failed(self, error: BaseException) -> None:
        # A commit whose answer is lost may have happened: the next write looks.
        self._entries, self._sending = [*self._sending, *self._entries], []
        self._unsure = True
        self._wait(self._clock())
        if isinstance(error, StaleAttempt):
            self._stale = error
            self._entries.clear()
        elif isinstance(error, SQLAlchemyError | ServiceUnavailable | OSError):
            # What a task tells must not cost its outcome, with which it comes again.
            log.warning("the run's log cannot be written now", error=type(error).__name__)
        else:
            raise error

    def _wait(self, now: float) -> None:
        if self._due == float("inf"):
            return
        pause = (now - self._began) * _PAUSE_PER_SECOND
        self._due = now + min(LONGEST_PAUSE_SECONDS, max(SHORTEST_PAUSE_SECONDS, pause))

    def _next(self) -> int:
        self._number += 1
        return self._number


class RunPlace:
    """Writes a journal to its run: one statement on PostgreSQL, which no pause of this process can
    keep half done with the row locked; one short transaction in a thread on SQLite.
    """

    def __init__(self, databases: Databases, claim: Row[Any]) -> None:
        self._databases = databases
        self._values = {"run_id": claim.id, "held_fence": claim.fence, "attempt": claim.attempt}
        self._is_sqlite = databases.dialect(APPLICATION_BIND) == "sqlite"

    def write(self, entries: Sequence[Entry], *, unsure: bool) -> None:
        """Write, blocking."""
        if self._is_sqlite:
            with self._databases.sync_begin(APPLICATION_BIND) as connection:
                left = self._left(connection, entries, unsure=unsure)
                moved = not left or _advance(connection, self._values, left)
                if moved and left:
                    insert_entries(connection, self._values, moved, left)
            self._check(moved)
            return
        with self._databases.sync_autocommit(APPLICATION_BIND) as connection:
            left = self._left(connection, entries, unsure=unsure)
            if left:
                statement, values = _at_once(self._values, left)
                self._check(connection.execute(statement, values).one_or_none())

    async def write_async(self, entries: Sequence[Entry], *, unsure: bool) -> None:
        """Write without blocking the loop."""
        if self._is_sqlite:
            await asyncio.to_thread(self.write, entries, unsure=unsure)
            return
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            left = await connection.run_sync(self._left, entries, unsure=unsure)
            if left:
                statement, values = _at_once(self._values, left)
                self._check((await connection.execute(statement, values)).one_or_none())

    def _left(
        self, connection: Connection, entries: Sequence[Entry], *, unsure: bool
    ) -> Sequence[Entry]:
        return unwritten(connection, self._values, entries) if unsure else entries

    def _check(self, moved: object) -> None:
        if not moved:
            STALE_WRITES.labels(write="journal").inc()
            raise StaleAttempt(
                f"Attempt {self._values['attempt']} of run {self._values['run_id']} has lost its"
                " lease."
            )


def unwritten(
    connection: Connection, values: Mapping[str, Any], entries: Sequence[Entry]
) -> Sequence[Entry]:
    """Return the entries that no earlier try has written; a try writes all of its own or none."""
    found = [
        select(table.c.number).where(
            table.c.run_id == values["run_id"],
            table.c.attempt == values["attempt"],
            table.c.number >= entries[0].number,
        )
        for table in (TaskRunLog.__table__, TaskRunProgress.__table__)
    ]
    numbers = set(connection.execute(union_all(*found)).scalars())
    # A report that is gone has given way to a later one.
    return [entry for entry in entries if entry.number > max(numbers, default=0)]


def insert_entries(
    connection: Connection, values: Mapping[str, Any], last_seq: int, entries: Sequence[Entry]
) -> None:
    """Insert the entries in the transaction that has numbered them, the last one as `last_seq`."""
    first = last_seq - len(entries) + 1
    rows = [
        {
            "run_id": values["run_id"],
            "attempt": values["attempt"],
            "seq": first + place,
            **_row(entry),
        }
        for place, entry in enumerate(entries)
    ]
    if lines := [row for row in rows if "level" in row]:
        connection.execute(insert(TaskRunLog), lines)
    if reports := [row for row in rows if "report" in row]:
        connection.execute(insert(TaskRunProgress), reports)
        shown = update(TaskRun).where(_RUN.id == values["run_id"])
        connection.execute(shown.values(progress=reports[-1]["report"]))


def _row(entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = {"number": entry.number, "at": entry.at}
    if isinstance(entry, Report):
        return {**told, "report": entry.report}
    return {**told, "level": entry.level, "message": entry.message, "fields": entry.fields}


def _advance(
    connection: Connection, values: Mapping[str, Any], entries: Sequence[Entry]
) -> int | None:
    statement = (
        update(TaskRun)
        .where(
            _RUN.id == values["run_id"],
            _RUN.status == Status.RUNNING,
            _RUN.fence == values["held_fence"],
        )
        .values(last_seq=_RUN.last_seq + len(entries), updated_at=db_now())
        .returning(_RUN.last_seq)
    )
    last_seq: int | None = connection.execute(statement).scalar_one_or_none()
    return last_seq


_AT_ONCE = text(
    """
    WITH moved AS (
        UPDATE task_runs
        SET last_seq = last_seq + :count, updated_at = statement_timestamp(),
            progress = COALESCE(CAST(:progress AS json), progress)
        WHERE id = CAST(:run_id AS uuid) AND status = 'RUNNING' AND fence = :held_fence
        RETURNING id, attempt, last_seq - :count AS before
    ), told AS (
        SELECT * FROM json_to_recordset(CAST(:entries AS json)) AS entry(
            place int, number int, at timestamptz, level text, message text, fields json,
            report json
        )
    ), lines AS (
        INSERT INTO task_run_logs (run_id, seq, attempt, number, at, level, message, fields)
        SELECT id, before + place, attempt, number, at, level, message, fields
        FROM moved, told WHERE level IS NOT NULL
    ), reports AS (
        INSERT INTO task_run_progress (run_id, seq, attempt, number, at, report)
        SELECT id, before + place, attempt, number, at, report
        FROM moved, told WHERE level IS NULL
    )
    SELECT before FROM moved
    """
).bindparams(bindparam("progress", type_=JsonType()))


def _at_once(values: Mapping[str, Any], entries: Sequence[Entry]) -> tuple[Any, dict[str, Any]]:
    """Return the statement that numbers and inserts the entries, and its values."""
    rows = [{"place": place, **_row(entry)} for place, entry in enumerate(entries, 1)]
    for row in rows:
        row["at"] = row["at"].isoformat()
    reports = [entry.report for entry in entries if isinstance(entry, Report)]
    return _AT_ONCE, {
        "run_id": values["run_id"],
        "held_fence": values["held_fence"],
        "count": len(entries),
        "progress": reports[-1] if reports else None,
        "entries": dumps(rows),
    }
