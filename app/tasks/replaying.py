"""From a dead letter to the run that tries again; nothing is written here."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Row

from app.tasks.catalogue import Catalogue, CatalogueEntry
from app.tasks.errors import (
    DeadLetterDiscarded,
    DeadLetterHasNoRun,
    DeadLetterReplayed,
    DeadLetterTaskNotRegistered,
    TaskNotRegistered,
)
from app.tasks.making import RunMaker
from app.tasks.requests import Caller, NewRun, RunOptions, RunRequest
from app.tasks.submission import check_scope


class ReplayMaker:
    """Makes the runs of replays: same task, labels, queue, priority and attempts as before."""

    def __init__(self, catalogue: Catalogue, maker: RunMaker) -> None:
        self._catalogue = catalogue
        self._maker = maker

    async def entry(self, task: str, principal: Caller) -> CatalogueEntry:
        """Return the task of a letter's run; DeadLetterTaskNotRegistered, or Forbidden when the
        task asks for a scope that the caller lacks.
        """
        try:
            entry = await self._catalogue.get(task)
        except TaskNotRegistered as error:
            cure = "Load its plugin again, or name it in aliases= of the task that took its place."
            raise DeadLetterTaskNotRegistered(
                f"The task '{task}' of this dead letter is not registered any more.",
                hint=" ".join(filter(None, (cure, error.hint))),
            ) from None
        check_scope(entry, principal)
        return entry

    def make(
        self,
        entry: CatalogueEntry,
        original: Row[Any],
        principal: Caller,
        *,
        trace_id: str,
        params: Mapping[str, Any] | None = None,
        batch_id: str | None = None,
        delay_seconds: float | None = None,
    ) -> NewRun:
        """Return the checked run; raises InvalidParams, InvalidOptions or ParamsTooLarge."""
        request = RunRequest(
            task=entry.name,
            params=original.params if params is None else params,
            options=self._options(entry, original, delay_seconds),
            labels=original.labels,
            parent_id=original.parent_id,
            batch_id=batch_id,
            replay_of=original.id,
        )
        return self._maker.make(
            entry,
            request,
            created_by=principal.id,
            tenant=original.tenant,
            trace_id=trace_id,
        )

    def _options(
        self, entry: CatalogueEntry, original: Row[Any], delay_seconds: float | None
    ) -> RunOptions:
        # A caller's longer time limit holds, and so does one that was raised since it failed.
        timeout = max(original.options.get("timeout_seconds") or 0, entry.options.timeout_seconds)
        return RunOptions(
            # A queue that no task uses any more has no worker.
            queue=original.queue if original.queue in self._maker.queues else None,
            priority=original.priority,
            max_attempts=original.max_attempts,
            timeout_seconds=timeout,
            delay_seconds=delay_seconds,
        )


def refuse_replay(letter: Row[Any], original: Row[Any] | None) -> None:
    """Raise what stands against a replay of the letter: it was replayed or discarded, or it has
    no run.
    """
    if letter.replayed_at is not None:
        raise DeadLetterReplayed(
            f"The dead letter was replayed as run {letter.replay_run_id}.",
            hint="Look at that run; if it failed too, replay its own dead letter.",
            members={"run_id": letter.replay_run_id},
        )
    if letter.discarded_at is not None:
        raise DeadLetterDiscarded(
            "The dead letter was discarded, so it is not replayed.",
            hint="Run its task anew with the parameters that its run shows.",
        )
    if original is None:
        raise DeadLetterHasNoRun(_why_no_run(letter), hint="Discard it once its sender is mended.")


def _why_no_run(letter: Row[Any]) -> str:
    if letter.run_id is not None:
        return (
            f"The message claims the run {letter.run_id}, which does not exist: it is foreign,"
            " or the run is past its retention."
        )
    return (
        f"The broker gave up a message that no run needs ({letter.error_type}): it is malformed"
        " or foreign, or its run went on without it."
    )
