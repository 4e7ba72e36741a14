"""The text of server-sent events, read back."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event: its id, `status`, `progress`, `log` or `end`, and its document."""

    id: str
    kind: str
    data: dict[str, Any]


def read_events(lines: Iterable[str]) -> Iterator[StreamEvent]:
    """Yield the events of a stream's lines; comments and what is cut off at the end are none."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if {"id", "event", "data"} <= fields.keys():
                yield StreamEvent(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
