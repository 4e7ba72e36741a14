"""Running a run again: a new run of the same task, perhaps with other parameters."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Row

from app.common.tracing import TraceContext
from app.tasks.catalogue import Catalogue
from app.tasks.errors import RunTaskNotRegistered, TaskNotRegistered
from app.tasks.making import RunMaker
from app.tasks.requests import Caller, RunOptions, RunRequest
from app.tasks.runs import Runs
from app.tasks.submission import Submission, Submitted

ENDPOINT = "tasks/rerun"


class Reruns:
    """Makes new runs of old ones: same task, labels, queue, priority and attempts as before."""

    def __init__(
        self, runs: Runs, catalogue: Catalogue, maker: RunMaker, submission: Submission
    ) -> None:
        self._runs = runs
        self._catalogue = catalogue
        self._queues = maker.queues
        self._submission = submission

    async def rerun(
        self,
        run_id: str,
        principal: Caller,
        *,
        trace: TraceContext,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Return the accepted run, whose `replay_of` is the old one, which stays as it is.

        The old one may be in any status. Raises RunNotFound, RunTaskNotRegistered, and what a
        submission raises.
        """
        original = await self._runs.get(run_id, principal)
        asked = RunRequest(
            task=original.task,
            params=original.params if params is None else params,
            replay_of=original.id,
        )
        request = RunRequest(
            task=original.task,
            params=asked.params,
            options=await self._options(original),
            labels=original.labels,
            task_id=asked.task_id,
            parent_id=original.parent_id,
            replay_of=original.id,
        )
        try:
            return await self._submission.submit(
                request,
                principal=principal,
                trace=trace,
                idempotency_key=idempotency_key,
                endpoint=ENDPOINT,
                asked=asked,
            )
        except TaskNotRegistered as error:
            cure = "Load its plugin again, or name it in aliases= of the task that took its place."
            raise RunTaskNotRegistered(
                f"The task '{original.task}' of this run is not registered any more.",
                hint=" ".join(filter(None, (cure, error.hint))),
            ) from None

    async def _options(self, original: Row[Any]) -> RunOptions:
        entry = (await self._catalogue.find_all([original.task])).get(original.task)
        declared = entry.options.timeout_seconds if entry else 0
        return RunOptions(
            # A queue that no task uses any more has no worker.
            queue=original.queue if original.queue in self._queues else None,
            priority=original.priority,
            max_attempts=original.max_attempts,
            # A caller's longer time limit holds, and so does one that was raised since.
            timeout_seconds=max(original.options.get("timeout_seconds") or 0, declared) or None,
        )
