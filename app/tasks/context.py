"""What a running task can reach: its run, progress, logs, sessions, cache, storage and children."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from app.common.ids import new_id, parse_id
from app.common.logging import get_logger
from app.common.redaction import redact
from app.common.strict_json import MAX_INTEGER, MIN_INTEGER, dump_bytes, keepable
from app.config.settings import APPLICATION_BIND, Settings
from app.db import Databases
from app.redis import BlockingCache, CacheClient
from app.redis.blocking import Run
from app.storage import Storage
from app.tasks.errors import RunCancelled
from app.tasks.insertion import FIND_EQUAL, held_key_of
from app.tasks.journal import Journal, RunPlace
from app.tasks.models import TaskRun
from app.tasks.requests import NewRun, RunOptions, RunRequest
from app.tasks.results import StoredResult

_CANCEL_CHECK_SECONDS = 1.0
_MAX_MESSAGE = 16_384


class ContextServices(Protocol):
    """What a context needs of the process; `app.tasks.services.Services` has it."""

    @property
    def settings(self) -> Settings:
        """The settings of the process."""

    @property
    def databases(self) -> Databases:
        """The databases by bind."""

    @property
    def cache(self) -> CacheClient:
        """The cache."""

    @property
    def storage(self) -> Storage:
        """The files."""

    def new_run(
        self, request: RunRequest, *, created_by: str, tenant: str | None, trace_id: str
    ) -> NewRun:
        """Return the checked run for a request; raises TaskNotRegistered, InvalidParams,
        InvalidOptions.
        """


class TaskLog:
    """Log lines of one attempt: they go to the process's log at once and to the run's log soon."""

    def __init__(self, journal: Journal, *, is_async: bool) -> None:
        self._logger = get_logger("task")
        self._journal = journal
        self._is_async = is_async

    def debug(self, message: str, **fields: object) -> None:
        """Write a line that helps a developer."""
        self._write("debug", message, fields)

    def info(self, message: str, **fields: object) -> None:
        """Write a line that tells what happens."""
        self._write("info", message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """Write a line that somebody should look at."""
        self._write("warning", message, fields)

    def error(self, message: str, **fields: object) -> None:
        """Write a line that tells of a failure."""
        self._write("error", message, fields)

    def _write(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        getattr(self._logger, level)(message, **fields)
        plain = {keepable(name): _plain(value) for name, value in fields.items()}
        self._journal.line(level, keepable(message)[:_MAX_MESSAGE], redact(plain) or None)
        if self._is_async:
            self._journal.flush_soon()
        else:
            self._journal.flush_if_due()


def _plain(value: object) -> str | int | float | None:
    """Return a field as the database keeps it; one odd value must not cost the outcome."""
    if value is None or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, int) and MIN_INTEGER <= value <= MAX_INTEGER:
        return value
    return keepable(value if isinstance(value, str) else repr(value))


class TaskContext:
    """The first parameter of a task that asks for it (`ctx: TaskContext`)."""

    def __init__(
        self,
        services: ContextServices,
        claim: Row[Any],
        *,
        run: Run,
        is_async: bool,
        plugin_settings: BaseModel | None = None,
    ) -> None:
        self._services = services
        self._claim = claim
        self._run = run
        self._is_async = is_async
        self._sessions: dict[str, AsyncSession | Session] = {}
        self._children: list[NewRun] = []
        self._cancel_seen = False
        self._cancel_checked = time.monotonic()
        self.plugin_settings = plugin_settings
        place = AttemptPlace(self, RunPlace(services.databases, claim))
        self.journal = Journal(place, max_lines=services.settings.limits.max_log_lines)
        self.log = TaskLog(self.journal, is_async=is_async)

    @property
    def task_id(self) -> str:
        """The run's id: stable over all attempts, so it is the key for effects elsewhere."""
        return cast("str", self._claim.id)

    @property
    def attempt(self) -> int:
        """Which attempt this is; the first is 1."""
        return cast("int", self._claim.attempt)

    @property
    def queue(self) -> str:
        """The class of queues that the run came through."""
        return cast("str", self._claim.queue)

    @property
    def trace_id(self) -> str:
        """The trace that the run belongs to."""
        return cast("str", self._claim.trace_id)

    @property
    def version(self) -> str | None:
        """The version of the task when the run was accepted; older code may have accepted it."""
        return cast("str | None", self._claim.task_version)

    @property
    def created_by(self) -> str:
        """The id of the user or client who submitted the run."""
        return cast("str", self._claim.created_by)

    @property
    def tenant(self) -> str | None:
        """The tenant that the run belongs to, if there are tenants."""
        return cast("str | None", self._claim.tenant)

    @property
    def settings(self) -> Settings:
        """The settings of the process."""
        return self._services.settings

    @property
    def cache(self) -> Any:
        """The cache, in a namespace of the task's plugin: a `CacheClient` in an `async def` task,
        its blocking form in a `def` task.
        """
        cache = self._services.cache.namespace(self._claim.function.partition(".")[0])
        return cache if self._is_async else BlockingCache(cache, self._run)

    @property
    def storage(self) -> Any:
        """The files: asynchronous in an `async def` task, blocking in a `def` task."""
        return self._services.storage if self._is_async else self._services.storage.sync

    def session(self, bind: str) -> Any:
        """Return the attempt's session on a bind, opened on first use; the core commits it with the
        outcome.

        `postgres_main` commits in one transaction with the run's outcome, any other bind
        right before it. A failed attempt rolls back.
        """
        if bind not in self._sessions:
            databases = self._services.databases
            make: Callable[[str], AsyncSession | Session] = (
                databases.create_async_session if self._is_async else databases.create_session
            )
            self._sessions[bind] = make(bind)
        return self._sessions[bind]

    def progress(
        self, current: float, total: float | None = None, message: str | None = None
    ) -> Any:
        """Report progress: `await` it in an `async def` task, call it in a `def` task.

        It is cheap in a tight loop: of reports that come faster than they are written, every half
        second at most, the last one is kept. Raises StaleAttempt when the attempt has lost its
        lease: it must stop.
        """
        told = None if message is None else keepable(message)
        report = {"current": current, "total": total, "message": told}
        dump_bytes(report)  # A number that is none is told here, where it comes from.
        self.journal.raise_if_stale()
        self.journal.report(report)
        return self._progress() if self._is_async else self._progress_sync()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to cancel the run; looked up at most once a second."""
        now = time.monotonic()
        if not self._cancel_seen and now - self._cancel_checked >= _CANCEL_CHECK_SECONDS:
            self._cancel_checked = now
            statement = select(TaskRun.cancel_requested_at).where(TaskRun.id == self.task_id)
            with self._services.databases.sync_autocommit(APPLICATION_BIND) as connection:
                self._cancel_seen = connection.execute(statement).scalar() is not None
        return self._cancel_seen

    def raise_if_cancelled(self) -> None:
        """End the attempt as CANCELLED when somebody asked to cancel the run; StaleAttempt when it
        has lost its lease.
        """
        self.journal.raise_if_stale()
        if self.cancelled:
            raise RunCancelled(f"The run {self.task_id} was cancelled.")

    def submit(
        self,
        task: str,
        params: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        delay_seconds: float | None = None,
        queue: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """Add a child run and return its id; it is committed in one transaction with this run's
        outcome.

        When the attempt fails, none of its children exists. Parameters are checked here. Of a
        task with `unique_for_seconds` it is an equal run's id when there is one.
        """
        options = RunOptions(delay_seconds=delay_seconds, queue=queue, priority=priority)
        child = self._new_child(task, params, task_id, options, labels)
        if (equal := self._equal_run(child)) is not None:
            return equal
        self._children.append(child)
        return child.id

    def submit_known(
        self,
        task: str,
        params: Mapping[str, Any] | None = None,
        *,
        result: StoredResult,
        task_id: str | None = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """Add a child run whose result is known already, and return its id.

        It begins as SUCCEEDED with that result: there is no message and no attempt. It is
        committed with this run's outcome, as children are.
        """
        child = self._new_child(task, params, task_id, RunOptions(queue=queue), labels)
        self._children.append(child.known(result.key))
        return child.id

    def _new_child(
        self,
        task: str,
        params: Mapping[str, Any] | None,
        task_id: str | None,
        options: RunOptions,
        labels: Mapping[str, str] | None,
    ) -> NewRun:
        request = RunRequest(
            task=task,
            params=dict(params or {}),
            options=options,
            labels=dict(labels or {}),
            task_id=parse_id(task_id) if task_id else new_id(),
            parent_id=self.task_id,
        )
        return self._services.new_run(
            request,
            created_by=self._claim.created_by,
            tenant=self._claim.tenant,
            trace_id=self.trace_id,
        )

    def _equal_run(self, child: NewRun) -> str | None:
        """Return the id of the run that stands for a unique child, None when it is the first."""
        if not child.unique_for_seconds:
            return None
        for other in self._children:
            if other.row["unique_key"] == child.row["unique_key"]:
                return other.id
        with self._services.databases.sync_autocommit(APPLICATION_BIND) as connection:
            return connection.execute(FIND_EQUAL, held_key_of(child)).scalar()

    # What the executor takes over at the end of the attempt.

    @property
    def sessions(self) -> dict[str, AsyncSession | Session]:
        """The sessions that were opened, by bind."""
        return self._sessions

    @property
    def children(self) -> list[NewRun]:
        """The child runs to commit with the outcome."""
        return self._children

    def holds_write_lock(self) -> bool:
        """Return whether the attempt's session holds the database's only write lock.

        On SQLite another connection would wait for a lock that this attempt keeps until
        its end; what it tells is then written with its outcome.
        """
        session = self._sessions.get(APPLICATION_BIND)
        if session is None or not session.in_transaction():
            return False
        return self._services.databases.dialect(APPLICATION_BIND) == "sqlite"

    async def _progress(self) -> None:
        await self.journal.flush_if_due_async()
        self.journal.raise_if_stale()

    def _progress_sync(self) -> None:
        self.journal.flush_if_due()
        self.journal.raise_if_stale()


class AttemptPlace:
    """The run of a context; not written while the attempt itself keeps the database locked."""

    def __init__(self, context: TaskContext, place: RunPlace) -> None:
        self._context = context
        self.write = place.write
        self.write_async = place.write_async

    def can_write(self) -> bool:
        """Return whether a write now would not wait for the attempt's own transaction."""
        return not self._context.holds_write_lock()
