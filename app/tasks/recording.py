"""Recording an outcome although the database, a lease or the outcome itself is in the way."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Row
from sqlalchemy.exc import DBAPIError

from app.common import failpoints
from app.common.errors import ServiceUnavailable
from app.common.logging import get_logger
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.errors import StaleAttempt
from app.tasks.hot_runs import HotRuns, Success
from app.tasks.loops import cancel_leftovers, run_on
from app.tasks.models import TaskRun
from app.tasks.outcomes import Outcome, Sessions, Told, failed, record
from app.tasks.statuses import Status
from app.tasks.transitions import SUCCEED

_RUN = TaskRun.__table__.c
_TRIES = 6
# What passes by itself; `app.db` turns a driver's own faults of this kind into ServiceUnavailable.
_AWAY = (ServiceUnavailable, OSError, TimeoutError)
log = get_logger(__name__)


class Recorder:
    """Commits the ends of attempts; `passing` are further errors that may not come again."""

    def __init__(
        self, databases: Databases, worker: str, passing: tuple[type[BaseException], ...] = ()
    ) -> None:
        self._databases = databases
        self._worker = worker
        self._passing = (*_AWAY, *passing)

    def record_together(
        self, hot: HotRuns, ended: Sequence[tuple[Any, Outcome]]
    ) -> frozenset[str] | None:
        """Commit plain successes in one statement; return the ids of the runs that it has recorded,
        None when nobody knows.
        """
        successes = [
            Success(claim.id, claim.fence, outcome.values["result"], outcome.values["result_ref"])
            for claim, outcome in ended
        ]
        try:
            failpoints.hit("outcome.before_commit")
            recorded = hot.succeed(successes, self._worker)
            failpoints.hit("outcome.after_commit")
        except Exception as error:  # noqa: BLE001 - each is recorded by itself, which judges it
            _tell(error, 0)
            return None
        return recorded

    def record(
        self,
        runner: asyncio.Runner,
        claim: Row[Any],
        wanted: Outcome,
        sessions: Sessions,
        *,
        unsure: bool = False,
    ) -> tuple[Row[Any], Outcome]:
        """Return the row and the outcome that it tells of; StaleAttempt when nothing was written.

        A database that is away for a moment costs a moment, not the attempt. What the
        database will never take makes the attempt a failed one. With `unsure` an earlier try may
        have been committed.
        """
        outcome = wanted
        for number in range(1, _TRIES + 1):
            try:
                done = record(self._databases, claim, outcome, sessions, self._worker)
                return run_on(runner, done), outcome
            except StaleAttempt:
                row = run_on(runner, self._recorded(claim)) if unsure or number > 1 else None
                if row is None:
                    raise
                # An earlier try has committed although its answer was lost.
                return row, wanted if row.status == Status.SUCCEEDED else outcome
            except Exception as error:  # noqa: BLE001 - whatever it is, the attempt needs an end
                cancel_leftovers(runner)
                _tell(error, number)
                passes = self._passes(error)
                is_new = outcome is wanted and bool(sessions or not passes)
                if is_new:
                    # What the task wrote is gone with its transaction, or cannot be written.
                    outcome, sessions = _instead(claim, wanted, error), {}
                if passes or not is_new:
                    run_on(runner, asyncio.sleep(0.2 * 2**number))
        raise StaleAttempt("The database did not take the outcome; the lease will run out.")

    def _passes(self, error: Exception) -> bool:
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        return lost or isinstance(error, self._passing)

    async def _recorded(self, claim: Row[Any]) -> Row[Any] | None:
        """Return the row when an outcome of this attempt stands in it."""
        statement = select(*_RUN).where(
            _RUN.id == claim.id, _RUN.fence == claim.fence, _RUN.status != Status.RUNNING
        )
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            return (await connection.execute(statement)).one_or_none()


def _instead(claim: Row[Any], wanted: Outcome, error: Exception) -> Outcome:
    """Return the outcome to record when the wanted one cannot be: the least that tells the end."""
    if wanted.transition is SUCCEED:
        return failed(claim, error, (Exception,), Told())
    return replace(wanted, told=Told(), children=[])


def _tell(error: Exception, number: int) -> None:
    log.warning(
        "the outcome cannot be recorded now",
        error=type(error).__name__,
        attempt=number,
        exc_info=error,
    )
