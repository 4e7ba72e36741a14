"""Request headers with a meaning for submissions: `Idempotency-Key` and `Prefer`."""

import re
from typing import Annotated

from fastapi import Depends, Request

from app.tasks.errors import InvalidIdempotencyKey
from app.tasks.idempotency import check_idempotency_key

MAX_WAIT_SECONDS = 30
_WAIT = re.compile(r"\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(;.*)?", re.IGNORECASE)


async def read_idempotency_key(request: Request) -> str | None:
    """Return the key or None; InvalidIdempotencyKey for a second header or a bad value."""
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    if len(values) > 1:
        raise InvalidIdempotencyKey("There must be only one Idempotency-Key header.")
    check_idempotency_key(values[0])
    return values[0]


async def read_wait_seconds(request: Request) -> int:
    """Return the seconds of `Prefer: wait=N` (RFC 7240), at most 30; 0 without the preference.

    A preference that cannot be read is ignored, as the RFC asks.
    """
    for value in request.headers.getlist("prefer"):
        for preference in value.split(","):
            if match := _WAIT.fullmatch(preference):
                return min(int(match[1]), MAX_WAIT_SECONDS)
    return 0


# Read from the request itself, because a second header of the same name must not be lost.
KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "For 24 hours the same key with the same body gives the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
HEADER_PARAMETERS = [
    KEY_PARAMETER,
    {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=N`: hold the answer back for up to N (at most 30) seconds.",
        "schema": {"type": "string"},
        "example": "wait=10",
    },
]
IdempotencyKey = Annotated[str | None, Depends(read_idempotency_key)]
WaitSeconds = Annotated[int, Depends(read_wait_seconds)]
