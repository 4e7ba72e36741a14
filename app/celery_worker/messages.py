"""What travels: a wake-up for one run, in the shape that Celery's protocol 2 asks for.

The body is a constant. A run's arguments are in its row, so a forged or doubled message can
only ask a worker to look at a row.
"""

from collections.abc import Mapping
from typing import Final

from app.tasks.transport import Wakeup

BODY: Final = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
CONTENT_TYPE: Final = "application/json"
CONTENT_ENCODING: Final = "utf-8"

# An `async def` task is cancelled at its time-out by the executor. The pool's signal comes a
# moment later, for `def` tasks, so that the two do not cross.
_SOFT_LIMIT_SLACK_SECONDS: Final = 0.5

# After its soft limit a run has this long to end by itself; then its process is killed.
HARD_LIMIT_GRACE_SECONDS: Final = 10.0

_LONGEST_ERROR_TEXT: Final = 4000


class BadMessage(Exception):
    """A message that no task can be made of; the text says why."""


def headers_of(wakeup: Wakeup) -> dict[str, object]:
    """Return the headers of a wake-up; `timelimit` is Celery's [hard, soft] in seconds."""
    hard = soft = None
    if wakeup.timeout_seconds is not None:
        soft = wakeup.timeout_seconds + _SOFT_LIMIT_SLACK_SECONDS
        hard = soft + HARD_LIMIT_GRACE_SECONDS
    headers: dict[str, object] = {
        "lang": "py",
        "task": wakeup.function,
        "id": wakeup.run_id,
        "root_id": wakeup.run_id,
        "ignore_result": True,
        "timelimit": [hard, soft],
    }
    if wakeup.traceparent is not None:
        headers["traceparent"] = wakeup.traceparent
    return headers


def dead_letter_headers(wakeup: Wakeup, error: Mapping[str, str]) -> dict[str, object]:
    """Return the headers of a dead letter: the wake-up's own and those that tell its error."""
    return {
        **headers_of(wakeup),
        **{name: text[:_LONGEST_ERROR_TEXT] for name, text in error.items()},
    }
