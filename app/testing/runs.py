"""A run as a test looks at it."""

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.engine import Row

from app.config.settings import APPLICATION_BIND
from app.storage.port import SyncStorage
from app.tasks.models import DeadLetter, TaskRun, TaskRunEvent, TaskRunLog
from app.tasks.services import Services


class Run:
    """A run, read from its row whenever it is asked: it is always as the kit's clock finds it."""

    def __init__(self, services: Services, run_id: str) -> None:
        self._services = services
        self.id = run_id

    def __repr__(self) -> str:
        row = self.row
        error = f", error={row.error}" if row.error else ""
        return f"<Run {row.task} {row.status}, attempt {row.attempt} of {row.max_attempts}{error}>"

    @property
    def row(self) -> Row[Any]:
        """The row of `task_runs`."""
        (row,) = self._rows(select(TaskRun.__table__).where(TaskRun.id == self.id))
        return row

    @property
    def status(self) -> str:
        """The status, as in the API: "SUCCEEDED", "RETRYING" and so on."""
        return cast("str", self.row.status)

    @property
    def attempt(self) -> int:
        """How often the run was started."""
        return cast("int", self.row.attempt)

    @property
    def result(self) -> Any:
        """The result document, also when it lies on the storage; None while there is none."""
        row = self.row
        if row.result_ref is None:
            return row.result
        storage: SyncStorage = self._services.storage.sync
        return json.loads(storage.get(row.result_ref))

    @property
    def error(self) -> dict[str, Any] | None:
        """The last attempt's error: `type`, `message`, `retryable`; None when it succeeded."""
        return cast("dict[str, Any] | None", self.row.error)

    @property
    def progress(self) -> dict[str, Any] | None:
        """What the task reported last: `current`, `total`, `message`."""
        return cast("dict[str, Any] | None", self.row.progress)

    @property
    def statuses(self) -> list[str]:
        """The statuses that the run has gone through, in order."""
        events = TaskRunEvent.__table__
        statement = select(events).where(TaskRunEvent.run_id == self.id).order_by(TaskRunEvent.seq)
        return [row.to_status for row in self._rows(statement)]

    @property
    def logs(self) -> list[str]:
        """The messages that the task wrote through `ctx.log`, of all attempts."""
        lines = TaskRunLog.__table__
        statement = select(lines).where(TaskRunLog.run_id == self.id).order_by(TaskRunLog.id)
        return [row.message for row in self._rows(statement)]

    @property
    def children(self) -> list["Run"]:
        """The runs that this one submitted, oldest first."""
        statement = select(TaskRun.id).where(TaskRun.parent_id == self.id).order_by(TaskRun.id)
        return [Run(self._services, row.id) for row in self._rows(statement)]

    @property
    def dead_letter(self) -> Row[Any] | None:
        """The row of `dead_letters` that the run left, None when it left none."""
        rows = self._rows(select(DeadLetter.__table__).where(DeadLetter.run_id == self.id))
        return rows[0] if rows else None

    def _rows(self, statement: Any) -> Sequence[Row[Any]]:
        with self._services.databases.sync_autocommit(APPLICATION_BIND) as connection:
            return connection.execute(statement).all()


RunOf = Callable[[str], Run]
