"""Following runs: everything that is told of one, in its order, while it happens.

One query every now and then asks how far all followed runs have come, however many streams there
are; it asks seldom while nothing happens, and not at all when nobody follows. What is new is then
read by each stream for itself. A run's numbers become visible in their order (`journal.py`), so a
stream that goes on behind the last number it has told misses nothing and tells nothing twice.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.engine import Row
from sqlalchemy.exc import SQLAlchemyError

from app.common.errors import ServiceUnavailable
from app.common.logging import get_logger
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.models import TaskRun, TaskRunEvent, TaskRunLog, TaskRunProgress
from app.tasks.statuses import ENDED

SHORTEST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 2.0
_SLOWER = 1.3
_MOST_IDS = 1000
_MOST_AT_ONCE = 200
_RUN = TaskRun.__table__.c
Kind = Literal["status", "progress", "log", "end"]
_TABLES: tuple[tuple[Kind, Any], ...] = (
    ("status", TaskRunEvent.__table__),
    ("progress", TaskRunProgress.__table__),
    ("log", TaskRunLog.__table__),
)
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that is told of a run: a row of its table, or of the run itself for `end`."""

    kind: Kind
    seq: int
    row: Row[Any]


class Follower:
    """Waits for a run to come further than it was seen."""

    def __init__(self, run_id: str, seen: int) -> None:
        self.run_id = run_id
        self.seen = seen
        self.news = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Return True when there is something new, False after so many seconds without."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.news.wait()
        has_news = self.news.is_set()
        self.news.clear()
        return has_news


class RunStreams:
    """The streams of one process, and the one query that keeps all of them awake."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._followers: set[Follower] = set()
        self._poller: asyncio.Task[None] | None = None
        self._joined = asyncio.Event()
        self._is_closed = False
        self.polls = 0

    @property
    def is_closed(self) -> bool:
        """Whether the process stops, so that every stream ends."""
        return self._is_closed

    def close(self) -> None:
        """End every stream soon; a client resumes elsewhere."""
        self._is_closed = True
        for follower in self._followers:
            follower.news.set()

    async def follow(
        self, run_id: str, after: int, beat_seconds: float
    ) -> AsyncGenerator[list[Told]]:
        """Yield what is told of a run behind the number `after`, at the last its end.

        The list is empty when nothing was told for `beat_seconds`. The iteration ends behind the
        end of the run, when the run is deleted, and at the stop of the process.
        """
        with self._following(run_id, after) as follower:
            while not self._is_closed:
                run = await self._state(run_id)
                if run is None:
                    return
                if run.last_seq > follower.seen:
                    upto = min(run.last_seq, follower.seen + _MOST_AT_ONCE)
                    told = await self._read(run_id, follower.seen, upto)
                    follower.seen = upto
                    yield told
                elif run.status in ENDED:
                    yield [Told("end", run.last_seq, run)]
                    return
                elif not await follower.wait(beat_seconds):
                    yield []

    @contextlib.contextmanager
    def _following(self, run_id: str, seen: int) -> Iterator[Follower]:
        follower = Follower(run_id, seen)
        self._followers.add(follower)
        self._joined.set()
        if self._poller is None or self._poller.done():
            self._poller = asyncio.get_running_loop().create_task(self._poll())
        try:
            yield follower
        finally:
            self._followers.discard(follower)
            if not self._followers and self._poller is not None:
                self._poller.cancel()
                self._poller = None

    async def _state(self, run_id: str) -> Row[Any] | None:
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            statement = select(TaskRun.__table__).where(_RUN.id == run_id)
            return (await connection.execute(statement)).one_or_none()

    async def _read(self, run_id: str, after: int, upto: int) -> list[Told]:
        """Return what has the numbers behind `after` up to `upto`, all of them committed."""
        told: list[Told] = []
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            for kind, table in _TABLES:
                statement = select(table).where(
                    table.c.run_id == run_id, table.c.seq > after, table.c.seq <= upto
                )
                rows = (await connection.execute(statement)).all()
                told += [Told(kind, row.seq, row) for row in rows]
        return sorted(told, key=lambda one: one.seq)

    async def _poll(self) -> None:
        pause = SHORTEST_PAUSE_SECONDS
        while True:
            self._joined.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._joined.wait()
                    pause = SHORTEST_PAUSE_SECONDS
                    # Who has just joined has looked already.
                    await asyncio.sleep(pause)
            try:
                news = await self._wake()
            except (SQLAlchemyError, ServiceUnavailable, OSError) as error:
                log.warning("streams.database_away", error=type(error).__name__)
                news = False
            pause = SHORTEST_PAUSE_SECONDS if news else min(pause * _SLOWER, LONGEST_PAUSE_SECONDS)

    async def _wake(self) -> bool:
        """Ask how far the followed runs are; wake those that have come further, or are gone."""
        followers = list(self._followers)
        ids = sorted({follower.run_id for follower in followers})
        seqs: dict[str, int] = {}
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            for start in range(0, len(ids), _MOST_IDS):
                chunk = ids[start : start + _MOST_IDS]
                statement = select(_RUN.id, _RUN.last_seq).where(_RUN.id.in_(chunk))
                self.polls += 1
                seqs |= {row.id: row.last_seq for row in await connection.execute(statement)}
        awake = [one for one in followers if seqs.get(one.run_id, one.seen + 1) > one.seen]
        for follower in awake:
            follower.news.set()
        return bool(awake)
