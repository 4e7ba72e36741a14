"""Named points at which a test makes the process die, fail or wait.

The variable TASKYARD_FAILPOINTS names them: `name=action[:nth][,name=…]`. The action
is `exit` (the process ends at once, as by `kill -9`), `raise` or `sleep(seconds)`; with
`nth` it happens at the nth passage of the process only, without it at each. Unset, a
point costs one comparison.
"""

import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.common.errors import ConfigurationError

VARIABLE: Final = "TASKYARD_FAILPOINTS"
EXIT_CODE: Final = 137

# Every place in the code that calls `hit`; a test compares the two.
NAMES: Final = frozenset(
    {
        "submission.before_commit",
        "submission.after_commit",
        "schedules.before_commit",
        "schedules.after_commit",
        "publisher.before_publish",
        "publisher.after_confirm",
        "execution.after_claim",
        "execution.before_record",
        "outcome.before_commit",
        "outcome.between_binds",
        "outcome.after_commit",
        "archive.after_commit",
        "storage.before_rename",
        "storage.after_rename",
    }
)

_ACTION: Final = re.compile(
    r"(?P<action>exit|raise|sleep\((?P<seconds>\d+(?:\.\d+)?)\))(?::(?P<nth>[1-9]\d*))?"
)


class FailpointError(Exception):
    """The error of a failpoint whose action is `raise`."""


@dataclass(frozen=True, slots=True)
class _Rule:
    action: str
    seconds: float
    nth: int | None


class Failpoints:
    """The points that are set, and how often this process has passed each."""

    def __init__(self, text: str) -> None:
        self._rules = _parse(text)
        self._passed = dict.fromkeys(self._rules, 0)
        self._lock = threading.Lock()

    def hit(self, name: str) -> None:
        """Do what the point's rule says, if it has one and its turn has come."""
        rule = self._rules.get(name)
        if rule is None:
            return
        with self._lock:
            self._passed[name] += 1
            passed = self._passed[name]
        if rule.nth in (None, passed):
            _act(name, rule)


def hit(name: str) -> None:
    """Pass a point; nothing happens unless the environment named it at the start."""
    if _points is not None:
        _points.hit(name)


def read(environ: Mapping[str, str]) -> Failpoints | None:
    """Return the points that the environment sets, None for none; ConfigurationError for a typo."""
    text = environ.get(VARIABLE, "").strip()
    return Failpoints(text) if text else None


def _parse(text: str) -> dict[str, _Rule]:
    rules = {}
    for entry in text.split(","):
        name, _, action = entry.strip().partition("=")
        match = _ACTION.fullmatch(action)
        if name not in NAMES or match is None:
            raise ConfigurationError(
                f"{VARIABLE}: '{entry.strip()}' is not a failpoint.",
                hint=f"Write name=exit|raise|sleep(seconds)[:nth], of: {', '.join(sorted(NAMES))}.",
            )
        rules[name] = _Rule(
            match["action"].partition("(")[0],
            float(match["seconds"] or 0),
            int(match["nth"]) if match["nth"] else None,
        )
    return rules


def _act(name: str, rule: _Rule) -> None:
    match rule.action:
        case "exit":
            os._exit(EXIT_CODE)
        case "raise":
            raise FailpointError(f"The failpoint {name} was hit.")
        case _:
            time.sleep(rule.seconds)


_points: Final = read(os.environ)
