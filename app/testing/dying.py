"""A worker that dies between the work and its record."""

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Row

from app.tasks.errors import StaleAttempt
from app.tasks.hot_runs import HotRuns
from app.tasks.loops import run_on
from app.tasks.outcomes import Outcome, Sessions, close_sessions
from app.tasks.recording import Recorder


class MortalRecorder(Recorder):
    """Records as always, except the one outcome before which the worker is to die."""

    dies_next = False

    def record_together(
        self, hot: HotRuns, ended: Sequence[tuple[Any, Outcome]]
    ) -> frozenset[str] | None:
        """Return the ids of the recorded runs; none for a worker that is to die."""
        return frozenset() if self.dies_next else super().record_together(hot, ended)

    def record(
        self,
        runner: asyncio.Runner,
        claim: Row[Any],
        wanted: Outcome,
        sessions: Sessions,
        *,
        unsure: bool = False,
    ) -> tuple[Row[Any], Outcome]:
        """Return the row and the outcome; StaleAttempt, and nothing written, for a dead worker."""
        if not self.dies_next:
            return super().record(runner, claim, wanted, sessions, unsure=unsure)
        self.dies_next = False
        # The database rolls back what a lost connection had open.
        run_on(runner, close_sessions(sessions))
        raise StaleAttempt("The worker died; the kit was told so.")
