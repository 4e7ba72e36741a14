"""From the items of a batch to checked runs: every wrong item is named, and none is accepted."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from app.common.errors import FieldError, TaskyardError
from app.tasks.catalogue import Catalogue, CatalogueEntry
from app.tasks.errors import (
    InvalidBatch,
    InvalidOptions,
    InvalidParams,
    ParamsTooLarge,
    TaskNotRegistered,
)
from app.tasks.making import RunMaker
from app.tasks.requests import Caller, NewRun, RunRequest
from app.tasks.submission import check_scope

# Ten thousand items can be wrong in more places than anybody reads.
MOST_FAULTS: Final = 100
# So many items are checked before other requests have their turn.
_AT_ONCE: Final = 250


class BatchItems:
    """Makes the runs of a batch; looks each task up once."""

    def __init__(self, catalogue: Catalogue, maker: RunMaker) -> None:
        self._catalogue = catalogue
        self._maker = maker

    async def make(
        self, requests: Sequence[RunRequest], batch_id: str, principal: Caller, trace_id: str
    ) -> list[NewRun]:
        """Return one run per request, in their order.

        Raises Forbidden, ParamsTooLarge when size is all that is wrong, else InvalidBatch.
        """
        entries = await self._catalogue.find_all(request.task for request in requests)
        for name in sorted(entries):
            check_scope(entries[name], principal)
        runs: list[NewRun] = []
        faults: list[FieldError] = []
        only_size = True
        for index, request in enumerate(requests):
            if index % _AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                run = self._make(entries, request, principal, trace_id)
            except (TaskNotRegistered, InvalidParams, InvalidOptions, ParamsTooLarge) as error:
                faults += _placed(index, error)
                only_size = only_size and isinstance(error, ParamsTooLarge)
                if len(faults) >= MOST_FAULTS:
                    break
            else:
                run.row["batch_id"] = batch_id
                runs.append(run)
        if faults:
            raise _refusal(faults[:MOST_FAULTS], only_size=only_size)
        return runs

    def _make(
        self,
        entries: Mapping[str, CatalogueEntry],
        request: RunRequest,
        principal: Caller,
        trace_id: str,
    ) -> NewRun:
        entry = entries.get(request.task)
        if entry is None:
            raise self._catalogue.not_registered(request.task)
        return self._maker.make(
            entry,
            request,
            created_by=principal.id,
            tenant=principal.tenant,
            trace_id=trace_id,
        )


def _placed(index: int, error: TaskyardError) -> list[FieldError]:
    here = ("items", index)
    if isinstance(error, TaskNotRegistered):
        told = " ".join(filter(None, (error.detail, error.hint)))
        return [FieldError((*here, "task"), told, "task_not_registered")]
    if isinstance(error, ParamsTooLarge):
        return [FieldError((*here, "params"), error.detail, "params_too_large")]
    return [fault._replace(loc=(*here, *fault.loc)) for fault in error.errors]


def _refusal(faults: Sequence[FieldError], *, only_size: bool) -> TaskyardError:
    items = len({fault.loc[1] for fault in faults})
    noun = "item is" if items == 1 else "items are"
    most = "At least " if len(faults) == MOST_FAULTS else ""
    if only_size:
        hint = "Put the data on the storage and pass its key."
        detail = f"{most}{items} {noun} too large; nothing was accepted."
        return ParamsTooLarge(detail, hint=hint, errors=faults)
    return InvalidBatch(f"{most}{items} {noun} wrong; nothing was accepted.", errors=faults)
