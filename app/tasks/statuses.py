"""The statuses of a run, as clients see them."""

from enum import StrEnum


class Status(StrEnum):
    """Where a run is in its life; see the state table in `docs/guides/guarantees.md`."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


WAITING = (Status.PENDING, Status.SCHEDULED, Status.RETRYING)
ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)
