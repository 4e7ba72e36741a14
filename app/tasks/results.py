"""Results: small ones stay in the row, large ones go to the storage and the row keeps the key."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class StoredResult(BaseModel):
    """Return this from a task whose result document is a JSON file that it has put on the
    storage.
    """

    model_config = ConfigDict(frozen=True)

    key: str


@dataclass(frozen=True, slots=True)
class EncodedResult:
    """What the row keeps of a result: the JSON value, or the storage key of the document."""

    value: object = None
    ref: str | None = None


RESULTS = "results/"


def result_key(run_id: str, fence: int) -> str:
    """Return the storage key for the result of an attempt that is too large for its row.

    The fence is in it, so that a zombie cannot write over the result of the attempt
    that took over.
    """
    return f"{result_folder(run_id)}{run_id}.{fence}.json"


def result_folder(run_id: str) -> str:
    """Return the folder that the results of a run are in, with those of runs made beside it."""
    return f"{RESULTS}{run_id[:8]}/"
