"""The writer of submitted runs: those that come at the same time are committed together.

Nobody waits for company. A run that comes while no statement is under way is written at once; those
that come meanwhile share the next one. So one request alone pays for itself only, and the more
there are the less each of them costs. A run that cannot be written fails alone: when a statement
is refused its runs are written one by one, and each caller gets its own answer.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.common import failpoints
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.errors import DatabaseUnavailable, PoolExhausted
from app.tasks.errors import RunAlreadyExists
from app.tasks.insertion import insert_run
from app.tasks.joint_insertion import Inserted, insert_together
from app.tasks.outbox import Outbox
from app.tasks.requests import NewRun

# More statements at once would only be smaller.
_STATEMENTS: Final = 2
_MOST_TOGETHER: Final = 100
_LARGE_BYTES: Final = 512 * 1024
# Some ten seconds of work for a database; who comes then is better off somewhere else.
_MOST_WAITING: Final = 10_000


@dataclass(slots=True, eq=False)
class _Waiting:
    """A run and the caller that waits for it; a caller that has gone has cancelled `written`."""

    run: NewRun
    written: "asyncio.Future[Inserted]"
    until: float


class RunWriter:
    """Writes runs of one event loop and hands them to the outbox."""

    def __init__(
        self,
        databases: Databases,
        outbox: Outbox,
        *,
        statements: int = _STATEMENTS,
        most_waiting: int = _MOST_WAITING,
        patience_seconds: float | None = None,
    ) -> None:
        """Take the places; without `patience_seconds` a run waits as long as for a connection."""
        self._databases = databases
        self._outbox = outbox
        self._statements = statements
        self._most_waiting = most_waiting
        pool = databases.options(APPLICATION_BIND)
        self._patience = patience_seconds or pool.pool_timeout_seconds
        self._waiting: deque[_Waiting] = deque()
        self._writing: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._watch: asyncio.TimerHandle | None = None

    async def write(self, run: NewRun) -> Inserted:
        """Return when the run, which is not unique, is durable.

        Raises RunAlreadyExists, and DatabaseUnavailable and its kin: PoolExhausted when no
        statement had room for the run within the pool's time-out. Who is cancelled while waiting
        takes the run along, unless it is being written.
        """
        if len(self._waiting) >= self._most_waiting:
            raise PoolExhausted(APPLICATION_BIND)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(run, loop.create_future(), loop.time() + self._patience)
        self._waiting.append(waiting)
        if self._under_way < self._statements:
            self._under_way += 1
            # It outlives the request that happens to start it, and tells nothing in its name.
            task = loop.create_task(self._write_all(), context=contextvars.Context())
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        elif self._watch is None:
            self._watch = loop.call_at(waiting.until, self._give_up)
        return await waiting.written

    async def close(self) -> None:
        """Finish what waits."""
        while self._writing:
            await asyncio.wait(self._writing)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _write_all(self) -> None:
        try:
            while batch := self._next():
                try:
                    await self._write(batch)
                except Exception as error:  # noqa: BLE001 - it belongs to the callers
                    for waiting in batch:
                        _fail(waiting, error)
        finally:
            # Now, not when the task is seen to be done: who came in between would wait for it.
            self._under_way -= 1

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < _MOST_TOGETHER and size < _LARGE_BYTES:
            waiting = self._waiting.popleft()
            if not waiting.written.done():
                batch.append(waiting)
                size += waiting.run.params_bytes
        return batch

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        for _ in batch:
            failpoints.hit("submission.before_commit")
        try:
            written = await insert_together(self._databases, [waiting.run for waiting in batch])
        except DatabaseUnavailable:
            raise
        except Exception:  # noqa: BLE001 - which of the runs is at fault shows when each is alone
            await self._write_alone(batch)
        else:
            self._settle(batch, written)

    async def _write_alone(self, batch: Sequence[_Waiting]) -> None:
        for waiting in batch:
            run = waiting.run
            try:
                async with self._databases.begin(APPLICATION_BIND) as connection:
                    row = await insert_run(connection, run, actor=run.row["created_by"])
            except Exception as error:  # noqa: BLE001 - it belongs to the caller
                _fail(waiting, error)
            else:
                inserted = Inserted(row.created_at, row.scheduled_for, row.now)
                self._settle([waiting], {run.id: inserted})

    def _settle(self, batch: Sequence[_Waiting], written: dict[str, Inserted]) -> None:
        """Answer; what is durable goes to the outbox, also when its caller has gone."""
        for _ in written:
            failpoints.hit("submission.after_commit")
        wakeups = []
        for waiting in batch:
            run = waiting.run
            # Of two runs with one id the first was written.
            inserted = written.pop(run.id, None)
            if inserted is None:
                _fail(waiting, RunAlreadyExists(f"The run '{run.id}' exists already."))
                continue
            wakeups.append(run.wakeup(inserted.delay_seconds))
            if not waiting.written.done():
                waiting.written.set_result(inserted)
        self._outbox.offer(wakeups)

    def _give_up(self) -> None:
        """Refuse those that have waited too long while every statement was under way."""
        loop = asyncio.get_running_loop()
        while self._waiting and self._waiting[0].until <= loop.time():
            waiting = self._waiting.popleft()
            _fail(waiting, PoolExhausted(APPLICATION_BIND))
        self._watch = loop.call_at(self._waiting[0].until, self._give_up) if self._waiting else None


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.written.done():
        waiting.written.set_exception(error)
